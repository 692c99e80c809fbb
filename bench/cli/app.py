"""The commands: parse, call, print. Heavy imports stay inside the functions, so that help answers at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import bench
from bench.core.errors import UserError
from bench.core.output import print_json

HELP = """Honest, fast benchmarking of compact medical-image classifiers.

Try it at once, without network: bench run --models all --datasets all --protocol demo --seeds 1
"""

app = typer.Typer(
    name="bench", help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)
models_app = typer.Typer(help="The registered models.", no_args_is_help=True)
app.add_typer(models_app, name="models")


def _plugin(path: Path | None) -> Path | None:
    if path is not None:
        from bench.core.plugins import load_plugin

        load_plugin(path)
    return path


Plugin = Annotated[
    Path | None,
    typer.Option(help="Python file that registers models, datasets or regimes.", callback=_plugin, is_eager=True),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
ProtocolName = Annotated[str, typer.Option(help="paper, demo, or a TOML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="field=value of the protocol; repeatable.")]
Weights = Annotated[str | None, typer.Option(help="imagenet, none, or a .safetensors/.pth file.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    # Read when torch is loaded. Waiting threads that spin make a step five times slower as soon as another process
    # wants a core, and cost nothing measurable otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        typer.secho(f"bench: {error}", err=True, fg=typer.colors.RED)
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
def run(
    models: Annotated[str, typer.Option(help="all, or shell patterns, comma-separated.")] = "all",
    datasets: Annotated[str, typer.Option(help="all (that are at hand), or patterns.")] = "all",
    regimes: Annotated[str, typer.Option(help="all, or patterns: how models are trained.")] = "centralized,fedavg",
    seeds: Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (0,7).")] = "3",
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="grouped, image, official or official:N.")] = "grouped",
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/PROTOCOL when not given.")] = None,
    device: DeviceName = "auto",
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of a cell; 0: all cores, shared by --jobs; one on Ray.")
    ] = 0,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    wandb: Annotated[str, typer.Option(help="off, offline or online.")] = "off",
    executor: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")] = "local",
    jobs: Annotated[int, typer.Option(min=1, help="local: cells side by side, a process each.")] = 1,
    address: Annotated[str | None, typer.Option(help="ray: HOST:PORT or ray://HOST:PORT; none: this machine.")] = None,
    per_gpu: Annotated[int, typer.Option(min=1, help="ray: cells that share a GPU.")] = 1,
    devices: Annotated[int, typer.Option(min=1, help="Devices that train one centralized cell together (DDP).")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Run the grid: every model on every dataset. Start it again to go on where it stopped.

    Example: `bench run --models "deepmedix*" --datasets phantom-brain --regimes centralized --protocol demo`
    """
    from bench.core.config import load_protocol, make_runtime

    if weights is not None:
        overrides = [*(overrides or []), f"weights={json.dumps(weights)}"]
    recipe = load_protocol(protocol, overrides)
    placement = {"executor": executor, "jobs": jobs, "address": address, "per_gpu": per_gpu, "devices": devices}
    runtime = make_runtime(device=device, threads=threads, progress=progress, wandb=wandb, **placement)
    folder = out or Path("runs") / Path(protocol).stem

    from bench.executors.show import run_plan
    from bench.harness.plan import Request, make_plan

    plan = make_plan(Request(models, datasets, recipe, regimes, seeds, split))
    raise typer.Exit(run_plan(plan, folder, runtime, dry_run, as_json))


@models_app.command("list")
def models_list(as_json: Json = False, plugin: Plugin = None) -> None:
    """List the registered models.

    Example: `bench models list --json`
    """
    from bench.cli.listing import models_table

    _listing(models_table(), ["name", "paper", "backbone", "head", "smallest input", "summary"], as_json)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A model's name; also HEAD@BACKBONE, torchvision:NAME or timm:NAME.")],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 4,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Show one model: its parts, parameters and operations.

    Example: `bench models show deepmedix --classes 4`
    """
    from bench.cli.listing import model_card

    card = model_card(name, classes)
    if as_json:
        print_json(card)
        return
    width = max(len(field) for field in card)
    for field, value in card.items():
        typer.echo(f"{field:<{width}}  {value}")


@app.command()
def regimes(as_json: Json = False) -> None:
    """List the regimes: how a model can be trained.

    Example: `bench regimes`
    """
    from bench.harness.regimes import REGIMES

    rows = [{"name": name, "summary": REGIMES.get(name).summary} for name in REGIMES.names()]
    _listing(rows, ["name", "summary"], as_json)


@app.command()
def profile(
    models: Annotated[list[str], typer.Argument(help="Models or patterns.")],
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 4,
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    device: DeviceName = "auto",
    timing: Annotated[bool, typer.Option(help="Also time batches of training and inference.")] = True,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Count parameters, MACs, FLOPs and activations, and time batches, without training.

    Example: `bench profile "deepmedix*" mobilenet_v2 --set image_size=96 --set timing_batch_size=8`
    """
    from bench.cli.listing import PROFILE_COLUMNS, profile_rows
    from bench.core.config import load_protocol, make_runtime

    recipe = load_protocol(protocol, overrides)
    rows = profile_rows(",".join(models), classes, recipe, make_runtime(device=device), timing)
    _listing(rows, PROFILE_COLUMNS, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has: versions, devices, disk, where data and weights are.

    Example: `bench doctor --json`
    """
    from bench.cli.listing import diagnosis

    found = diagnosis()
    if as_json:
        print_json(found)
        return
    for field, value in found.items():
        typer.echo(f"{field:<12} {value}")


def _listing(rows: list[dict[str, Any]], columns: list[str], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if _numeric(rows, column) else "left")
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    Console().print(table)


def _numeric(rows: list[dict[str, Any]], column: str) -> bool:
    return any(isinstance(row.get(column), (int, float)) for row in rows)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def _mount() -> None:
    """Add the commands that other parts bring; their modules import nothing heavy."""
    from bench.cli.check import COMMANDS as gate_commands
    from bench.cli.data import app as data_app
    from bench.cli.fed import app as federated_app
    from bench.cli.gaps import gaps_command
    from bench.cli.sweep import COMMANDS as sweep_commands
    from reports.commands import COMMANDS as report_commands

    app.add_typer(data_app, name="data")
    app.add_typer(federated_app, name="fed")
    # Gaps are a report's: they are read from a run's folder, without what trains.
    federated_app.command("gaps")(gaps_command)
    commands: dict[str, Callable[..., Any]] = {**report_commands, **gate_commands, **sweep_commands}
    for name, function in commands.items():
        app.command(name)(function)


_mount()
