"""`bench run`. Heavy imports stay inside the functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    DeviceName,
    Json,
    Overrides,
    Plugin,
    ProtocolName,
    SplitName,
    Timing,
    Weights,
    asked_protocol,
)
from bench.core.output import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from bench.core.config import Runtime
    from bench.executors.run import Summary
    from bench.harness.plan import Plan
    from bench.store.run import Run


def run_command(
    models: Annotated[str, typer.Option(help="all, or shell patterns, comma-separated.")] = "all",
    datasets: Annotated[str, typer.Option(help="all (that are at hand), or patterns.")] = "all",
    regimes: Annotated[str, typer.Option(help="all, or patterns: how models are trained.")] = "centralized,fedavg",
    seeds: Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (0,7).")] = "3",
    protocol: ProtocolName = "paper",
    overrides: Overrides = None,
    split: SplitName = "grouped",
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
    timing: Timing = "full",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: Json = False,
    plugin: Plugin = None,
) -> None:
    """Run the grid: every model on every dataset. Start it again to go on where it stopped.

    Example: `bench run --models "deepmedix*" --datasets phantom-brain --regimes centralized --protocol demo`
    """
    from bench.core.config import make_runtime

    recipe = asked_protocol(protocol, overrides, weights)
    placement = {"executor": executor, "jobs": jobs, "address": address, "per_gpu": per_gpu, "devices": devices}
    runtime = make_runtime(device=device, threads=threads, progress=progress, wandb=wandb, timing=timing, **placement)
    folder = out or Path("runs") / Path(protocol).stem

    from bench.harness.plan import Request, make_plan

    plan = make_plan(Request(models, datasets, recipe, regimes, seeds, split))
    raise typer.Exit(run_plan(plan, folder, runtime, dry_run, as_json))


def run_plan(plan: Plan, folder: Path, runtime: Runtime, dry_run: bool, as_json: bool) -> int:
    """Show the plan, execute it unless it is a dry run, draw the report; returns the exit code."""
    from rich.console import Console

    from bench.executors.show import refuse_contradictions, show_plan
    from bench.store.run import Run

    console = Console(stderr=as_json)
    refuse_contradictions(plan, runtime, Run(folder))
    stored = Run.open(folder) if dry_run and folder.exists() else Run(folder) if dry_run else Run.create(folder)
    pending = show_plan(console, plan, stored, runtime.timing)
    if dry_run:
        cells = [{"key": cell.key, **cell.spec.as_dict()} for cell in plan.cells]
        if as_json:
            print_json({"cells": cells, "pending": len(pending)})
        return 0
    return _conclude(console, stored, _execute(console, plan, stored, runtime, len(pending)), as_json)


def _execute(console: Console, plan: Plan, stored: Run, runtime: Runtime, pending: int) -> Summary:
    from bench.executors.show import execute_shown

    if runtime.wandb == "off":
        return execute_shown(console, plan, stored, runtime, pending)
    from reports.wandb.tracking import Tracker

    with Tracker(stored, runtime.wandb) as tracker:
        return execute_shown(console, plan, stored, runtime, pending, [tracker])


def _conclude(console: Console, stored: Run, summary: Summary, as_json: bool) -> int:
    from reports.write import draw

    page = draw(stored.path, console)
    total = summary.done + summary.failed
    if as_json:
        print_json({"run": str(stored.path), "done": summary.done, "of": total, "report": str(page)})
    console.print(f"{summary.done} of {total} cells; report: {page}", highlight=False)
    if summary.stopped:
        console.print("stopped as asked; the same command goes on from the last epoch", style="yellow")
    return 0 if summary.done == total else 1


COMMANDS: dict[str, Callable[..., Any]] = {"run": run_command}
