"""`bench run`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DeviceName,
    Json,
    KeepEpochs,
    Overrides,
    Plugin,
    ProtocolName,
    RunConfig,
    SplitName,
    Timing,
    Weights,
    With,
    asked_protocol,
)
from bench.core.output import print_json

Compiled = Annotated[bool, typer.Option("--compile", help="Train whole networks compiled, where that pays.")]

if TYPE_CHECKING:
    from rich.console import Console

    from bench.analyses.run import Question
    from bench.core.config import Runtime
    from bench.executors.run import Summary
    from bench.harness.plan import Plan
    from bench.store.run import Run


def run_command(
    config: RunConfig = None,
    models: Annotated[str, typer.Option(help="all, or shell patterns, comma-separated.")] = "all",
    datasets: Annotated[str, typer.Option(help="all (that are available), or patterns.")] = "all",
    regimes: Annotated[str, typer.Option(help="all, or patterns: how models are trained.")] = "centralized,fedavg",
    seeds: Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (0,7).")] = "3",
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    split: SplitName = "grouped",
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/PROTOCOL when not given.")] = None,
    device: DeviceName = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of a cell; 0: all cores, shared by --jobs.")] = 0,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    wandb: Annotated[str, typer.Option(help="off, offline or online; offline without a network.")] = "off",
    executor: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster.")] = "local",
    jobs: Annotated[int, typer.Option(min=1, help="local: cells side by side, a process each.")] = 1,
    address: Annotated[str | None, typer.Option(help="ray: HOST:PORT or ray://HOST:PORT; none: this machine.")] = None,
    per_gpu: Annotated[int, typer.Option(min=1, help="ray: cells that share a GPU.")] = 1,
    compiled: Compiled = False,
    timing: Timing = "full",
    keep_epochs: KeepEpochs = False,
    analyses: With = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Run the grid: every model on every dataset. Start it again to go on where it stopped.

    Example: `bench run --models "deepmedix*" --datasets phantom-brain --regimes centralized --protocol demo`
    """
    from bench.core.config import make_runtime

    placement = {"executor": executor, "jobs": jobs, "address": address, "per_gpu": per_gpu}
    kept = {"timing": timing, "keep_epochs": keep_epochs, "compile": compiled}
    runtime = make_runtime(device=device, threads=threads, progress=progress, wandb=wandb, **kept, **placement)
    folder = out or Path("runs") / Path(protocol).stem

    from bench.harness.plan import Request, make_plan

    recipe = asked_protocol(protocol, overrides, weights)
    plan = make_plan(Request(models, datasets, recipe, regimes, seeds, split, analyses))
    raise typer.Exit(run_plan(plan, folder, runtime, dry_run, as_json, _questions(analyses)))


def _questions(names: str | None) -> list[Question]:
    """The analyses of --with, checked before a cell is fitted."""
    if names is None:
        return []
    from bench.analyses.run import questions

    return questions(names)


def run_plan(
    plan: Plan,
    folder: Path,
    runtime: Runtime,
    dry_run: bool,
    as_json: bool,
    asked: Sequence[Question] = (),
    formats: tuple[str, ...] = (),
) -> int:
    """Show the plan, execute it unless it is a dry run, put the questions, draw the report; returns the exit code.

    Args:
        plan: the cells.
        folder: of the run.
        runtime: how they are run.
        dry_run: only show the plan.
        as_json: one JSON document on standard output.
        asked: analyses put to every finished cell.
        formats: of the report, beside the usual ones.
    """
    from rich.console import Console

    from bench.executors.show import refuse_contradictions, settled, show_plan
    from bench.store.run import Run

    console = Console(stderr=as_json)
    refuse_contradictions(plan, runtime, Run(folder))
    stored = Run.open(folder) if dry_run and folder.exists() else Run(folder) if dry_run else Run.create(folder)
    pending = show_plan(console, plan, stored, runtime.timing)
    runtime = settled(console, plan, pending, runtime)
    if dry_run:
        cells = [{"key": cell.key, **cell.spec.as_dict()} for cell in plan.cells]
        if as_json:
            print_json({"cells": cells, "pending": len(pending)})
        return 0
    summary = _execute(console, plan, stored, runtime, len(pending))
    answers = _answers(plan, stored, asked, as_json)
    return _conclude(console, stored, summary, answers, as_json, formats)


def _answers(plan: Plan, stored: Run, asked: Sequence[Question], as_json: bool) -> list[dict[str, Any]]:
    """Put the questions to the plan's finished cells."""
    if not asked:
        return []
    from bench.cli.analyze import put

    keys = {cell.key for cell in plan.cells}
    done = [cell for cell in stored.cells() if cell.key in keys and cell.status == "done"]
    return put(stored.path, done, asked, as_json)


def _execute(console: Console, plan: Plan, stored: Run, runtime: Runtime, pending: int) -> Summary:
    from bench.executors.show import execute_shown

    if runtime.wandb == "off":
        return execute_shown(console, plan, stored, runtime, pending)
    from reports.wandb.tracking import Tracker

    with Tracker(stored, runtime.wandb) as tracker:
        return execute_shown(console, plan, stored, runtime, pending, [tracker])


def _conclude(
    console: Console,
    stored: Run,
    summary: Summary,
    answers: list[dict[str, Any]],
    as_json: bool,
    formats: tuple[str, ...],
) -> int:
    from reports.write import draw

    page = draw(stored.path, console, formats)
    total = summary.done + summary.failed
    if as_json:
        told = {"answers": answers} if answers else {}
        print_json({"run": str(stored.path), "done": summary.done, "of": total, "report": str(page), **told})
    console.print(f"{summary.done} of {total} cells; report: {page}", highlight=False)
    if summary.stopped:
        console.print("stopped as asked; the same command goes on from the last epoch", style="yellow")
    return 0 if summary.done == total and all(row["status"] != "failed" for row in answers) else 1


def reproduce_command(
    scale: Annotated[
        str, typer.Option(help="laptop: 96 px, 12 epochs, one seed first; gpu: the paper's own.")
    ] = "laptop",
    weights: Weights = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/reproduction-SCALE when not given.")] = None,
    device: DeviceName = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of a cell; 0: all cores.")] = 0,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run the paper's tables 1 to 4 on every dataset that is available, best first, and set its values beside ours.

    An ordinary run: stop it and start it again; what is finished by then stands in reproduction.html and .md.

    Example: `bench reproduce --scale laptop --weights mobilenet_v2.safetensors`
    """
    from bench.core.config import make_runtime
    from bench.harness.reproduction import reproduction_plan

    folder = out or Path("runs") / f"reproduction-{scale}"
    runtime = make_runtime(device=device, threads=threads, progress=progress)
    plan = reproduction_plan(scale, weights, overrides)
    ended = run_plan(plan, folder, runtime, dry_run, as_json, formats=("reproduction",))
    if not dry_run:
        for name in ("reproduction.md", "reproduction.html"):
            typer.echo(folder / "report" / name, err=as_json)
    raise typer.Exit(ended)


COMMANDS: dict[str, Callable[..., Any]] = {"run": run_command, "reproduce": reproduce_command}
