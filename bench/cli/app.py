"""The commands: parse, call, print. Heavy imports stay inside the functions, so that help answers at once."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import bench
from bench.cli.door import guarded, sentence
from bench.cli.options import Json, Plugin, print_listing
from bench.core.errors import UserError
from bench.core.output import print_json

HELP = """Honest, fast benchmarking of compact medical-image classifiers.

Try it at once, without network: bench run --models all --datasets all --protocol demo --seeds 1
"""

app = typer.Typer(
    name="bench", help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    # Read when torch is loaded. Waiting threads that spin make a step five times slower as soon as another process
    # wants a core, and cost nothing measurable otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The profiler that counts a network's memory warns of what was allocated before it; what it counts is not touched.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        guarded(app)
    except UserError as error:
        typer.secho(f"bench: {sentence(str(error))}", err=True, fg=typer.colors.RED)
        sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bench {bench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    pass


@app.command()
def regimes(as_json: Json = False, plugin: Plugin = None) -> None:
    """List the regimes: how a model can be trained.

    Example: `bench regimes`
    """
    from bench.harness.regimes import REGIMES

    rows = [{"name": name, "summary": REGIMES.get(name).summary} for name in REGIMES.names()]
    print_listing(rows, ["name", "summary"], as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has: versions, devices, disk, where data and weights are.

    Example: `bench doctor --json`
    """
    from bench.harness.environment import diagnosis

    found = diagnosis()
    if as_json:
        print_json(found)
        return
    for field, value in found.items():
        typer.echo(f"{field:<12} {value}")


def _mount() -> None:
    """Add the commands of the other files; none of them imports anything heavy."""
    from bench.cli import analyze, check, data, fed, models, report, run, runs, sweep

    app.add_typer(models.app, name="models")
    app.add_typer(data.app, name="data")
    app.add_typer(fed.app, name="fed")
    app.add_typer(runs.app, name="runs")
    for group in (run, runs, models, report, analyze, check, sweep):
        for name, function in group.COMMANDS.items():
            app.command(name)(function)


_mount()
