"""A plan shown before it runs, and executed before the user's eyes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console

from bench.core.config import Runtime, TimingMode
from bench.core.errors import UserError
from bench.core.output import counted
from bench.executors.display import Pace, PlainDisplay, RichDisplay, clock
from bench.executors.driver import Listener
from bench.executors.run import Summary, execute
from bench.harness.plan import Plan, PlannedCell
from bench.store.cells import is_done
from bench.store.run import Run


def refuse_contradictions(plan: Plan, runtime: Runtime, stored: Run) -> None:
    """Refuse options that do not go together, and a device that is not there and would be used.

    Args:
        stored: where the cells' results are; a run of which nothing is left needs no device.

    Raises:
        UserError: in one sentence.
    """
    if runtime.executor == "ray" and runtime.jobs > 1:
        raise UserError("--jobs is for --executor local; on Ray the cluster's size decides how many cells run at once")
    if runtime.executor == "local" and (runtime.address or runtime.per_gpu > 1):
        option = "--address" if runtime.address else "--per-gpu"
        raise UserError(f"{option} needs --executor ray; on this machine alone, --jobs N runs N cells side by side")
    # On a cluster the devices are the workers'; it is looked at when it is joined.
    protocols = {cell.spec.protocol for cell in unfinished(plan, stored)} if runtime.executor == "local" else set()
    if protocols:
        from bench.harness.networks import check_runtime

        for protocol in protocols:
            check_runtime(protocol, runtime)


def unfinished(plan: Plan, stored: Run) -> list[PlannedCell]:
    """The cells of a plan that have no result."""
    return [cell for cell in plan.cells if not is_done(stored.folder(cell.key))]


def show_plan(console: Console, plan: Plan, stored: Run, timing: TimingMode = "full") -> list[PlannedCell]:
    """Say what is about to run; the cells that are left.

    Args:
        console: where it is said.
        plan: the cells.
        stored: the run's folder, which tells what is done.
        timing: how batch times are measured, for the estimate.
    """
    pending = unfinished(plan, stored)
    specs = [cell.spec for cell in plan.cells]
    nouns = ("model", "dataset", "split", "regime", "seed")
    counts = [counted(len({getattr(spec, noun) for spec in specs}), noun) for noun in nouns]
    console.print(f"[bold]{counted(len(specs), 'cell')}[/]: {', '.join(counts)} → {stored.path}", highlight=False)
    for name, table in plan.tables.items():
        about = ", synthetic" if table.synthetic else ""
        console.print(f"  {name}: {len(table)} images, {len(table.classes)} classes{about}", highlight=False)
        for note in table.notes:
            console.print(f"    {note}", highlight=False, markup=False, style="yellow")
    for name, hint in plan.absent.items():
        console.print(f"  [dim]not available: {name} ({hint})[/]", highlight=False)
    for sentence in plan.left_out:
        console.print(f"  [dim]left out: {sentence}[/]", highlight=False)
    for note in sorted({f"{cell.spec.model}: {cell.size_note}" for cell in plan.cells if cell.size_note}):
        console.print(f"  [dim]{note}[/]", highlight=False)
    rough = ""
    if pending:
        from bench.executors.estimate import estimate_seconds

        found = estimate_seconds(plan, pending, stored, timing)
        share = f", {clock(found.timing)} of it for batch times (--timing {timing})" if found.timing else ""
        rough = f"; roughly {clock(found.seconds)} one after the other{share}"
    console.print(f"  {len(specs) - len(pending)} done already, {len(pending)} to run{rough}", highlight=False)
    return pending


def settled(console: Console, plan: Plan, pending: list[PlannedCell], runtime: Runtime) -> Runtime:
    """The runtime with `compile` on only where it pays for the cells that are left, and the reason on the console.

    Where bf16 trains more slowly than 32 bits would, that is told too.

    Args:
        console: where the reasons are printed.
        plan: with its tables; pending: its cells that are left.
        runtime: as it was asked for.
    """
    if not pending:
        return runtime
    if runtime.executor == "local" and any(cell.spec.protocol.precision == "bf16" for cell in pending):
        from bench.harness.networks import precision_note

        for note in sorted({precision_note(cell.spec.protocol, runtime) for cell in pending} - {""}):
            console.print(f"  {note}", highlight=False, style="yellow")
    if not runtime.compile:
        return runtime
    from bench.executors.estimate import compiling

    found = compiling(plan, pending)
    console.print(f"  --compile: {found.sentence}", highlight=False)
    return runtime.model_copy(update={"compile": found.pays})


def execute_shown(
    console: Console,
    plan: Plan,
    stored: Run,
    runtime: Runtime,
    pending: int,
    also: Sequence[Listener] = (),
    command: str | None = None,
) -> Summary:
    """Execute a plan before the user's eyes.

    Args:
        console: where the display stands.
        plan: the cells.
        stored: the run's folder.
        runtime: how they are run.
        pending: how many of its cells are left.
        also: others who hear of every event, beside the display.
        command: what the plan remembers as its origin; None: this process's command line.
    """
    pace = Pace(len(plan.cells), len(plan.cells) - pending)
    command = " ".join(["bench", *sys.argv[1:]]) if command is None else command
    live = runtime.progress == "rich" or (runtime.progress == "auto" and console.is_terminal)
    with ExitStack() as stack:
        listeners: list[Listener] = [*also]
        if live:
            listeners.append(stack.enter_context(RichDisplay(console, pace)))
        elif runtime.progress != "none":
            listeners.append(PlainDisplay(console, pace))
        return execute(plan, stored, runtime, listeners, command)
