"""Hand cells to workers that run side by side, hear of them, and give a lost worker's cells to another one."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from bench.executors.artifacts import Missing
from bench.executors.driver import WAIT_SECONDS, Driver
from bench.executors.transfer import BEGUN, TaskResult, commit
from bench.harness.plan import PlannedCell
from bench.store.failures import failure_of, failure_record

POLL_SECONDS = 0.1
MAX_LOSSES = 3


@dataclass(frozen=True)
class WorkerEvent:
    """A worker told something of its cell."""

    key: str
    event: dict[str, Any]


@dataclass(frozen=True)
class WorkerResult:
    """A worker is through with a cell."""

    key: str
    result: TaskResult


@dataclass(frozen=True)
class WorkerLost:
    """A worker died over a cell."""

    key: str
    reason: str


WorkerMessage = WorkerEvent | WorkerResult | WorkerLost


class Pool(Protocol):
    """Workers, whatever they are."""

    def has_room(self) -> bool:
        """Whether another cell may be handed over now."""

    def submit(self, cell: PlannedCell) -> None:
        """Hand over a cell."""

    def provide(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        """Make what a worker lacked ready for it; the cell is submitted again afterwards."""

    def poll(self, timeout: float) -> list[WorkerMessage]:
        """What happened, waiting so many seconds for it at most."""

    def request_stop(self) -> None:
        """Ask every worker to stop after its step; called again and again until the last one has."""


def drive(driver: Driver, pool: Pool) -> None:
    """Run every cell that is left.

    Raises:
        UserError: the disk is full.
    """
    _Drive(driver, pool).run()


class _Drive:
    def __init__(self, driver: Driver, pool: Pool) -> None:
        self._driver = driver
        self._pool = pool
        self._running: dict[str, PlannedCell] = {}
        self._losses: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._provided: set[tuple[str, Missing]] = set()
        self._look_again = 0.0

    def run(self) -> None:
        driver = self._driver
        try:
            while True:
                if driver.stop():
                    self._pool.request_stop()
                else:
                    self._hand_out()
                if self._running:
                    for message in self._pool.poll(POLL_SECONDS):
                        self._take(message)
                elif driver.stop() or not driver.left:
                    return
                else:
                    driver.await_others()
        finally:
            for cell in self._running.values():
                driver.release(cell)

    def _hand_out(self) -> None:
        while self._pool.has_room() and time.monotonic() >= self._look_again:
            cell = self._driver.claim()
            if cell is None:
                # Those that are left are with other drivers; their locks are not asked for at every turn.
                self._look_again = time.monotonic() + WAIT_SECONDS if self._running else 0.0
                return
            self._running[cell.key] = cell
            self._pool.submit(cell)

    def _take(self, message: WorkerMessage) -> None:
        cell = self._running[message.key]
        if isinstance(message, WorkerLost):
            self._lose(cell, message.reason)
        elif isinstance(message, WorkerResult):
            self._receive(cell, message.result)
        elif message.event == BEGUN:
            self._begin(cell)
        else:
            self._driver.event(cell, message.event)

    def _begin(self, cell: PlannedCell) -> None:
        if cell.key not in self._begun:
            self._begun.add(cell.key)
            self._driver.started(cell)

    def _receive(self, cell: PlannedCell, result: TaskResult) -> None:
        commit(self._driver.run.folder(cell.key), result.files)
        if result.status == "missing" and not self._driver.stop():
            self._provide(cell, result.missing)
            return
        if result.status == "interrupted" and not self._driver.stop():
            self._lose(cell, "it was told to stop on its machine")
            return
        if result.status == "failed":
            self._driver.refuse_full_disk()
        if result.status in {"done", "failed"}:
            self._end(cell, result.failure)
        else:
            self._let_go(cell)

    def _provide(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        asked = {(cell.key, what) for what in missing}
        if asked & self._provided:
            self._fail(cell, f"a worker still lacks the cell's {' and '.join(missing)} that it was sent")
            return
        self._provided |= asked
        try:
            self._pool.provide(cell, missing)
        except Exception as error:  # noqa: BLE001 - an image that cannot be read fails its cells, not the run
            self._end(cell, failure_of(cell.key, cell.spec.as_dict(), error))
        else:
            self._pool.submit(cell)

    def _lose(self, cell: PlannedCell, reason: str) -> None:
        self._losses[cell.key] += 1
        self._begin(cell)
        self._driver.event(cell, {"event": "lost", "reason": reason})
        self._begun.discard(cell.key)
        if self._driver.stop():
            self._let_go(cell)
        elif self._losses[cell.key] < MAX_LOSSES:
            self._running.pop(cell.key)
            self._driver.put_back(cell)
        else:
            self._fail(cell, f"its worker died {MAX_LOSSES} times, at last: {reason}")

    def _fail(self, cell: PlannedCell, error: str) -> None:
        self._end(cell, failure_record(cell.key, cell.spec.as_dict(), error))

    def _end(self, cell: PlannedCell, failure: dict[str, Any] | None) -> None:
        # The word that it began may be slower than the result, or was never said by one that failed at once.
        self._begin(cell)
        self._driver.ended(cell, failure)
        self._let_go(cell)

    def _let_go(self, cell: PlannedCell) -> None:
        self._driver.release(self._running.pop(cell.key))
