"""`bench runs` and `bench score`: runs as things. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Json, Overrides, Plugin, ProtocolName, RunFolder, SplitName, asked_protocol, print_listing
from bench.core.output import counted, print_json

app = typer.Typer(help="List, show, merge, trim and pack runs.", no_args_is_help=True)
Pattern = Annotated[str, typer.Option(help="A key's beginning, or a pattern on names: 'vgg16 · *'.")]


@app.command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder.

    Example: `bench runs list runs`
    """
    from bench.store.manage import runs_in

    print_listing(runs_in(folder), ["run", "cells", "done", "failed", "mb", "planned", "problem"], as_json)


@app.command()
def show(run: RunFolder, as_json: Json = False) -> None:
    """Show what a run holds.

    Example: `bench runs show runs/demo`
    """
    from bench.store.manage import summary
    from bench.store.run import Run

    found = summary(Run.open(run))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<10} {', '.join(value) if isinstance(value, list) else value}")


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new folder, or a run to add to.")],
    as_json: Json = False,
) -> None:
    """Copy the cells of several runs into one, those of two machines say.

    Example: `bench runs merge runs/here runs/there --out runs/both`
    """
    from bench.store.manage import merge as join

    found = join(runs, out)
    if as_json:
        print_json({"run": str(out), **found})
        return
    shared = f", {found['shared']} that several had" if found["shared"] else ""
    typer.echo(
        f"{out}: {counted(found['cells'], 'cell')} ({found['copied']} copied{shared}); `bench report {out}` draws it"
    )


@app.command()
def drop(
    run: RunFolder,
    cells: Pattern,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove cells from a run, with their predictions: a model, a dataset, a condition.

    Example: `bench runs drop runs/demo --cells "vgg16 · *"`
    """
    from bench.core.cellspec import name_of
    from bench.store.cells import matching
    from bench.store.manage import drop as remove
    from bench.store.run import Run

    if not yes:
        for cell in matching(Run.open(run).cells(), cells):
            typer.echo(name_of(cell.spec), err=True)
        typer.confirm("Remove these cells for good?", abort=True, err=True)
    gone = remove(run, cells)
    if as_json:
        print_json({"run": str(run), "dropped": gone})
    else:
        typer.echo(f"{run}: {counted(len(gone), 'cell')} removed")


@app.command()
def archive(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The .tar.gz to write.")],
    as_json: Json = False,
) -> None:
    """Pack a run for a colleague: without states to resume from and without paths of this machine.

    Example: `bench runs archive runs/demo --out demo.tar.gz`
    """
    from bench.store.archive import archive as pack

    names = pack(run, out)
    if as_json:
        print_json({"archive": str(out), "files": names})
    else:
        typer.echo(f"{out}: {counted(len(names), 'file')}, {out.stat().st_size / 1e6:.1f} MB")


def score_command(
    predictions: Annotated[Path, typer.Argument(help="CSV or Parquet: image_id, p_CLASS ...", show_default=False)],
    dataset: Annotated[str, typer.Option(help="The dataset whose test set they are of.")],
    name: Annotated[str | None, typer.Option(help="What the system is called; the file's name when not given.")] = None,
    split: SplitName = "grouped",
    seed: Annotated[int, typer.Option(min=0, help="The seed of the split.")] = 0,
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run to add it to; runs/PROTOCOL when not given.")] = None,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Give somebody else's predictions on a test set the same metrics, intervals and comparisons.

    They become a cell of a model "external:NAME", beside the run's own cells of the same protocol. The ids of a
    test set stand in the predictions.parquet of any finished cell of it.

    Example: `bench score theirs.csv --dataset figshare-brain --split official:1 --out runs/mine`
    """
    from bench.core.cellspec import CENTRALIZED, CellSpec
    from bench.executors.scoring import score
    from bench.measure.columns import names_of

    spec = CellSpec("", dataset, split, CENTRALIZED, asked_protocol(protocol, overrides), seed)
    folder = out or Path("runs") / Path(protocol).stem
    found = score(predictions, name or predictions.stem, spec, folder)
    if as_json:
        print_json({"run": str(folder), "key": found.key, "metrics": found.result["metrics"]})
        return
    metrics, bounds = found.result["metrics"], found.result["intervals"]
    for column in names_of("quality", level=1):
        low, high = bounds.get(column, (None, None))
        told = [f"{100 * value:.1f}" if value is not None else "–" for value in (metrics[column], low, high)]
        typer.echo(f"{column:<18} {told[0]} [{told[1]}, {told[2]}]")
    typer.echo(f"{folder}: cell {found.key}; `bench report {folder}` draws it")


COMMANDS: dict[str, Callable[..., Any]] = {"score": score_command}
