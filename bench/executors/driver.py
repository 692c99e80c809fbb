"""The driver's side of a run: which cells are left, who holds which, what is stored and who is told."""

from __future__ import annotations

import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from filelock import FileLock, Timeout

from bench.core.atomic import write_json
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.harness.plan import Plan, PlannedCell
from bench.store.cells import StoredCell, is_done
from bench.store.layout import CELL_LOCK, FAILURE
from bench.store.run import Run

LOW_DISK_BYTES = 64 * 2**20
WAIT_SECONDS = 2.0


class Listener(Protocol):
    """Who wants to hear of a run: the display, a tracker. Several cells may run at once; `key` tells them apart."""

    def started(self, cell: PlannedCell, folder: Path) -> None:
        """A cell begins or goes on."""

    def event(self, key: str, event: dict[str, Any]) -> None:
        """Something happened inside a running cell: {"event": "batch" | "epoch" | "features" | "lost" ...}."""

    def finished(self, stored: StoredCell) -> None:
        """A cell ended, well or not."""

    def waiting(self, count: int) -> None:
        """The cells that are left are being run by other processes."""


@dataclass
class Stop:
    """A request to stop, set by the first Ctrl-C or SIGTERM; the second one ends at once."""

    requested: bool = False

    def __call__(self) -> bool:
        """Whether somebody asked."""
        return self.requested

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT and SIGTERM inside the block."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@dataclass
class Driver:
    """What an executor takes cells from and brings them back to.

    Attributes:
        left: cells that nobody is known to have done.
        held: the locks of the cells that this driver has handed out, by key; several drivers may share a run's folder.
    """

    plan: Plan
    run: Run
    runtime: Runtime
    listeners: list[Listener]
    stop: Stop
    left: deque[PlannedCell] = field(init=False)
    held: dict[str, FileLock] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.left = deque(self.plan.cells)

    def claim(self) -> PlannedCell | None:
        """Take the next cell that is neither done nor another process's, under its lock; None where there is none."""
        for _ in range(len(self.left)):
            cell = self.left.popleft()
            folder = self.run.folder(cell.key)
            if is_done(folder):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / CELL_LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.left.append(cell)
                continue
            if is_done(folder):
                lock.release()
                continue
            self.held[cell.key] = lock
            return cell
        return None

    def release(self, cell: PlannedCell) -> None:
        """Let go of a claimed cell."""
        self.held.pop(cell.key).release()

    def put_back(self, cell: PlannedCell) -> None:
        """Let go of a claimed cell that did not end; it is the next one to be claimed."""
        self.release(cell)
        self.left.appendleft(cell)

    def await_others(self) -> None:
        """Say that the cells that are left are with other processes, and give them time."""
        self.tell("waiting", len(self.left))
        time.sleep(WAIT_SECONDS)

    def started(self, cell: PlannedCell) -> None:
        """Tell that a claimed cell begins."""
        self.tell("started", cell, self.run.folder(cell.key))

    def event(self, cell: PlannedCell, event: dict[str, Any]) -> None:
        """Tell what happens in a cell."""
        self.tell("event", cell.key, event)

    def ended(self, cell: PlannedCell, failure: dict[str, Any] | None = None) -> None:
        """Tell that a cell ended, after storing why if it failed."""
        if failure is not None:
            write_json(self.run.folder(cell.key) / FAILURE, failure)
        self.tell("finished", self.run.cell(cell.key, cell.spec.as_dict()))

    def refuse_full_disk(self) -> None:
        """After a cell's failure. Raises UserError when the disk is full: every other cell would fail alike."""
        if shutil.disk_usage(self.run.path).free < LOW_DISK_BYTES:
            raise UserError(
                f"the disk of {self.run.path} is full; free some space and start again, finished cells are kept"
            )

    def tell(self, what: str, *about: Any) -> None:
        """Call a method of every listener."""
        for listener in self.listeners:
            getattr(listener, what)(*about)
