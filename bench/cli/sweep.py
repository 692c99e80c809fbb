"""`bench sweep`. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import DeviceName, Json, Overrides, Plugin, SplitName, Weights, asked_protocol
from bench.core.output import print_json

if TYPE_CHECKING:
    from sweeps.sweep import Asked


def sweep_command(
    model: Annotated[str, typer.Argument(help="A model's name.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="The dataset to search on.", show_default=False)],
    regime: Annotated[str, typer.Option(help="How trials are trained.")] = "centralized",
    trials: Annotated[int, typer.Option(min=1, help="Trials of all processes together; may be raised later.")] = 30,
    space: Annotated[Path | None, typer.Option(help="TOML file; the model family's own space if none.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="COLUMN:max or COLUMN:min on validation; repeat for a front.")
    ] = None,
    pruner: Annotated[str | None, typer.Option(help="hyperband, halving or none; hyperband if it can.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL or journal file (.log); an SQLite file in the run if none.")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds for which a database server that is gone is asked again.")
    ] = 600.0,
    protocol: Annotated[str, typer.Option(help="The default that is tuned: paper, demo, or a TOML file.")] = "paper",
    overrides: Overrides = None,
    split: SplitName = "grouped",
    weights: Weights = None,
    seeds: Annotated[str, typer.Option(help="Of the test at the end; trials take the first.")] = "3",
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/sweep-MODEL-DATASET if none.")] = None,
    best: Annotated[Path | None, typer.Option(help="Write the best protocol to this file as well.")] = None,
    test: Annotated[bool, typer.Option(help="Run the best and the default protocol on the test set.")] = True,
    device: DeviceName = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: torch's own choice.")] = 0,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Search for a better protocol on training and validation data, then test it beside the default.

    The same command in a second process, or on another machine with the same --storage, shares the trials; started
    again, it goes on. The best protocol goes to RUN/sweeps/ (or --best) and fits `bench run --protocol`.

    Example: `bench sweep deepmedix --dataset phantom-brain --protocol demo --trials 10 --objective accuracy:max`
    """
    from bench.core.config import make_runtime
    from bench.harness.plan import Request
    from sweeps.sweep import Asked

    runtime = make_runtime(device=device, threads=threads, progress=progress)
    folder = out or Path("runs") / f"sweep-{model.replace(':', '-')}-{dataset.replace(':', '-')}"
    request = Request(model, dataset, asked_protocol(protocol, overrides, weights), regime, seeds, split)
    objectives = tuple(objective or ["roc_auc:max"])
    _search(Asked(request, trials, objectives, folder, runtime, space, storage, pruner, best, test, patience), as_json)


def _search(asked: Asked, as_json: bool) -> None:
    """Run the sweep, say where the best protocol is, and exit as it went."""
    from rich.console import Console

    from sweeps.sweep import run_sweep

    outcome = run_sweep(asked, Console(stderr=as_json))
    if as_json:
        print_json(outcome)
        raise typer.Exit(0 if outcome["complete"] else 1)
    if outcome["protocol"]:
        typer.echo(f"best protocol: {outcome['protocol']}")
    if not outcome["complete"]:
        typer.echo("not everything has ended; the same command goes on where this one stopped")
    raise typer.Exit(0 if outcome["complete"] else 1)


COMMANDS: dict[str, Callable[..., Any]] = {"sweep": sweep_command}
