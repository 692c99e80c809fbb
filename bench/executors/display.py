"""What a run shows: one live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench.store.cells import StoredCell

if TYPE_CHECKING:
    from bench.harness.plan import PlannedCell

RECENT = 8
MOST_SHOWN = 6


def clock(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def outcome(stored: StoredCell) -> str:
    """One line on an ended cell."""
    if stored.result is None:
        return f"{stored.status}: {stored.problem.splitlines()[0]}"
    metrics = stored.result["metrics"]
    accuracy, auc = metrics["accuracy"], metrics["roc_auc"]
    return f"accuracy {_percent(accuracy)}  AUC {_percent(auc)}  {clock(stored.result['seconds'])}"


def _percent(value: float | None) -> str:
    return "   – " if value is None else f"{100 * value:5.1f}"


@dataclass
class Pace:
    """How many cells there are, how many are done, and how long the rest will take."""

    total: int
    done: int
    started: float = field(default_factory=time.monotonic)
    ended: int = 0

    def count(self) -> None:
        """A cell ended."""
        self.ended += 1
        self.done += 1

    def left(self) -> str:
        """The time left, from the cells that ended since the start."""
        if not self.ended:
            return "time left unknown"
        rest = (time.monotonic() - self.started) / self.ended * (self.total - self.done)
        return f"{clock(rest)} left"


class PlainDisplay:
    """A line when a cell begins and one when it ends, and a line an epoch at most every ten seconds."""

    def __init__(self, console: Console, pace: Pace) -> None:
        self._console = console
        self._pace = pace
        self._said = 0.0
        self._running: dict[str, str] = {}

    def started(self, cell: PlannedCell, folder: Path) -> None:
        """Name the cell."""
        self._running[cell.key] = cell.spec.name
        self._line(f"[{self._pace.done + len(self._running)}/{self._pace.total}] {cell.spec.name}")

    def event(self, key: str, event: dict[str, Any]) -> None:
        """Say an epoch's metrics now and then, and at once that a worker was lost."""
        if event["event"] == "lost":
            self._line(f"    {self._whose(key)}{_lost(event)}")
            self._running.pop(key, None)
        elif event["event"] in {"epoch", "round"} and time.monotonic() - self._said > 10:
            self._line(f"    {self._whose(key)}{_metrics(event)}")

    def finished(self, stored: StoredCell) -> None:
        """Say how it ended."""
        self._pace.count()
        self._line(f"    {self._whose(stored.key)}{outcome(stored)}  ({self._pace.left()})")
        self._running.pop(stored.key, None)

    def waiting(self, count: int) -> None:
        """Say who works on the rest."""
        if time.monotonic() - self._said > 30:
            self._line(f"{count} cells are being run by another process; waiting for it")

    def _whose(self, key: str) -> str:
        """The cell's name, where more than one is running."""
        return f"{self._running.get(key, key)}: " if len(self._running) > 1 else ""

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


@dataclass
class _Shown:
    """A running cell as the live display has it."""

    name: str
    bar: TaskID
    metrics: str = ""
    speed: Speed = field(default_factory=lambda: Speed())


class RichDisplay:
    """The grid's progress, the running cells', and the last cells that ended. Use as a context manager."""

    def __init__(self, console: Console, pace: Pace) -> None:
        self._pace = pace
        self._recent: deque[tuple[str, str, bool]] = deque(maxlen=RECENT)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
        self._bars = Progress(
            *columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console, expand=True
        )
        self._grid = self._bars.add_task("[bold]grid", total=pace.total, completed=pace.done, note="")
        self._running: dict[str, _Shown] = {}
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=5)

    def __enter__(self) -> RichDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.clear()
        self._live.stop()

    def started(self, cell: PlannedCell, folder: Path) -> None:
        """Show the new cell."""
        self._forget(cell.key)
        self._running[cell.key] = _Shown(cell.spec.name, self._bars.add_task("prepare", total=None, note=""))
        self._bars.update(self._grid, note=self._pace.left())

    def event(self, key: str, event: dict[str, Any]) -> None:
        """Move the cell's bar."""
        shown = self._running.get(key)
        if shown is None:
            return
        kind = event["event"]
        if kind == "batch":
            shown.speed.add(event["images"])
            note = f"{shown.speed.rate():,.0f} images/s"
            self._move(shown, f"epoch {event['epoch'] + 1}", event["batch"], event["batches"], note)
        elif kind == "features":
            self._move(shown, "features", event["done"], event["total"], "of the frozen backbone")
        elif kind in {"epoch", "round"}:
            shown.metrics = _metrics(event)
        elif kind == "lost":
            self._recent.append((shown.name, _lost(event), False))
            self._forget(key)
        else:
            self._move(shown, kind, None, None, "")

    def finished(self, stored: StoredCell) -> None:
        """Keep the cell's line, and move the grid's bar."""
        self._pace.count()
        shown = self._running.get(stored.key)
        self._recent.append((shown.name if shown else stored.key, outcome(stored), stored.result is not None))
        self._forget(stored.key)
        self._bars.update(self._grid, completed=self._pace.done, note=self._pace.left())

    def waiting(self, count: int) -> None:
        """Say who works on the rest."""
        self._bars.update(self._grid, note=f"{count} cells are with another process")

    def _move(self, shown: _Shown, what: str, done: int | None, total: int | None, note: str) -> None:
        self._bars.update(shown.bar, description=what, completed=done or 0, total=total, note=note)

    def _forget(self, key: str) -> None:
        shown = self._running.pop(key, None)
        if shown is not None:
            self._bars.remove_task(shown.bar)

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right")
        for name, metrics, good in self._recent:
            table.add_row(Text(name, style="dim"), Text(metrics, style="" if good else "red"))
        tasks = {task.id: task for task in self._bars.tasks}
        lines: list[RenderableType] = [table]
        running = list(self._running.values())
        for shown in running[:MOST_SHOWN]:
            # One line each: the display would jump with a line that is broken now and not then.
            line = Text.assemble((shown.name, "bold cyan"), "  ", shown.metrics, no_wrap=True, overflow="ellipsis")
            lines.append(line)
            if shown.bar in tasks:
                lines.append(self._bars.make_tasks_table([tasks[shown.bar]]))
        if len(running) > MOST_SHOWN:
            lines.append(Text(f"and {len(running) - MOST_SHOWN} more cells", style="dim"))
        return Group(*lines, self._bars.make_tasks_table([tasks[self._grid]]))


@dataclass
class Speed:
    """Images a second over the last steps."""

    steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=30))

    def add(self, images: int) -> None:
        """Count a batch."""
        self.steps.append((time.monotonic(), images))

    def rate(self) -> float:
        """Images a second; 0 before the second step."""
        if len(self.steps) < 2:
            return 0.0
        seconds = self.steps[-1][0] - self.steps[0][0]
        return sum(images for _, images in list(self.steps)[1:]) / max(seconds, 1e-9)


def _metrics(event: dict[str, Any]) -> str:
    number = event.get("round", event.get("epoch", 0))
    shown = {"train_loss": "loss", "val_loss": "val loss", "val_accuracy": "val accuracy", "learning_rate": "rate"}
    metrics = [f"{label} {event[name]:.4g}" for name, label in shown.items() if event.get(name) is not None]
    return f"{event['event']} {number + 1}  " + "  ".join(metrics)


def _lost(event: dict[str, Any]) -> str:
    return f"lost its worker ({event['reason']}); another one takes it"
