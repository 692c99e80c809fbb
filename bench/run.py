"""Execute a plan: every cell under its lock, failures kept as rows, a request to stop heard."""

from __future__ import annotations

import shutil
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout

from bench.cell import run_cell
from bench.core.atomic import write_json
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.environment import environment
from bench.inputs import CellJob
from bench.plan import Plan, PlannedCell
from bench.store import ENVIRONMENT, FAILURE, Run, StoredCell, is_done, now
from models.callbacks import Interrupted

LOW_DISK_BYTES = 64 * 2**20
WAIT_SECONDS = 2.0


class Listener(Protocol):
    """Who wants to hear of a run: the display, a tracker."""

    def started(self, cell: PlannedCell, folder: Path) -> None:
        """A cell begins or goes on."""

    def event(self, event: dict[str, Any]) -> None:
        """Something happened inside the current cell: {"event": "batch" | "epoch" | "features" | ...}."""

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


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    done: int
    failed: int
    stopped: bool


def execute(plan: Plan, run: Run, runtime: Runtime, listeners: list[Listener], command: str = "") -> Summary:
    """Run every cell of a plan that is not done; cells that failed earlier are tried again.

    Several processes may execute the same run: each cell is run by whoever holds its lock.

    Raises:
        UserError: the run folder cannot be written, or the disk is full.
    """
    prepare_folder(plan, run, command)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    stop = Stop()
    with stop.listening():
        _work_through(plan, run, runtime, listeners, stop)
    states = [run.cell(cell.key, cell.spec.as_dict()).status for cell in plan.cells]
    return Summary(states.count("done"), len(states) - states.count("done"), stop.requested)


def prepare_folder(plan: Plan, run: Run, command: str) -> None:
    """Write the plan and the environment. Raises UserError when the folder refuses."""
    entries = [{"key": cell.key, "cell": cell.spec.as_dict()} for cell in plan.cells]
    try:
        with FileLock(run.path / ".plan.lock", timeout=30):
            run.write_plan(entries, command)
            write_json(run.path / ENVIRONMENT, environment())
    except Timeout as error:
        raise UserError(
            f"{run.path} is locked by another process that does not let go; stop it, or use another --out"
        ) from error
    except PermissionError as error:
        raise UserError(f"{run.path} cannot be written ({error.strerror}); choose another --out") from error


def _work_through(plan: Plan, run: Run, runtime: Runtime, listeners: list[Listener], stop: Stop) -> None:
    left = deque(plan.cells)
    passed_over = 0
    while left and not stop():
        cell = left.popleft()
        folder = run.folder(cell.key)
        if is_done(folder):
            passed_over = 0
            continue
        if _try_cell(plan, run, cell, runtime, listeners, stop):
            passed_over = 0
            continue
        left.append(cell)
        passed_over += 1
        if passed_over >= len(left):
            _tell(listeners, "waiting", len(left))
            time.sleep(WAIT_SECONDS)


def _try_cell(plan: Plan, run: Run, cell: PlannedCell, runtime: Runtime, listeners: list[Listener], stop: Stop) -> bool:
    """Run a cell unless another process does; whether this process held it."""
    folder = run.folder(cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            if not is_done(folder):
                _run_and_record(plan, run, cell, runtime, listeners, stop)
    except Timeout:
        return False
    return True


def _run_and_record(
    plan: Plan, run: Run, cell: PlannedCell, runtime: Runtime, listeners: list[Listener], stop: Stop
) -> None:
    folder = run.folder(cell.key)
    _tell(listeners, "started", cell, folder)
    job = CellJob(
        cell, plan.tables[cell.spec.dataset], folder, runtime, lambda event: _tell(listeners, "event", event), stop
    )
    try:
        run_cell(job)
    except Interrupted:
        return
    except Exception as error:  # noqa: BLE001 - one cell's failure must not stop the others; it is stored with its traceback
        _raise_if_disk_full(run.path, error)
        write_json(folder / FAILURE, failure_of(cell, error))
    _tell(listeners, "finished", run.cell(cell.key, cell.spec.as_dict()))


def failure_of(cell: PlannedCell, error: Exception) -> dict[str, Any]:
    """The record of a failed cell."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return {
        "key": cell.key,
        "cell": cell.spec.as_dict(),
        "error": f"{kind}{str(error).strip() or 'no message'}",
        "traceback": "".join(traceback.format_exception(error)),
        "when": now(),
    }


def _raise_if_disk_full(path: Path, error: Exception) -> None:
    if shutil.disk_usage(path).free < LOW_DISK_BYTES:
        raise UserError(
            f"the disk of {path} is full; free some space and start again, finished cells are kept"
        ) from error


def _tell(listeners: list[Listener], what: str, *about: Any) -> None:
    for listener in listeners:
        getattr(listener, what)(*about)
