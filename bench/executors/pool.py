"""Hand cells to workers that run side by side, hear of them, and give a lost worker's cells to another one."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from bench.executors.artifacts import Missing
from bench.executors.driver import WAIT_SECONDS, Desk
from bench.executors.transfer import BEGUN, Delivery, commit
from bench.harness.plan import PlannedCell
from bench.store.failures import failure_of, failure_record

POLL_SECONDS = 0.1
MAX_LOSSES = 3


@dataclass(frozen=True)
class Told:
    """A worker told something of its cell."""

    key: str
    event: dict[str, Any]


@dataclass(frozen=True)
class Brought:
    """A worker is through with a cell."""

    key: str
    delivery: Delivery


@dataclass(frozen=True)
class Lost:
    """A worker died over a cell."""

    key: str
    reason: str


News = Told | Brought | Lost


class Pool(Protocol):
    """Workers, whatever they are."""

    def has_room(self) -> bool:
        """Whether another cell may be handed over now."""

    def submit(self, cell: PlannedCell) -> None:
        """Hand over a cell."""

    def supply(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        """Make what a worker lacked ready for it; the cell is submitted again afterwards."""

    def hear(self, timeout: float) -> list[News]:
        """What happened, waiting so many seconds for it at most."""

    def ask_to_stop(self) -> None:
        """Ask every worker to stop after its step; called again and again until the last one has."""


def drive(desk: Desk, pool: Pool) -> None:
    """Run every cell that is left.

    Raises:
        UserError: the disk is full.
    """
    _Drive(desk, pool).run()


class _Drive:
    def __init__(self, desk: Desk, pool: Pool) -> None:
        self._desk = desk
        self._pool = pool
        self._running: dict[str, PlannedCell] = {}
        self._losses: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._supplied: set[tuple[str, Missing]] = set()
        self._look_again = 0.0

    def run(self) -> None:
        desk = self._desk
        try:
            while True:
                if desk.stop():
                    self._pool.ask_to_stop()
                else:
                    self._hand_out()
                if self._running:
                    for news in self._pool.hear(POLL_SECONDS):
                        self._take(news)
                elif desk.stop() or not desk.left:
                    return
                else:
                    desk.await_others()
        finally:
            for cell in self._running.values():
                desk.release(cell)

    def _hand_out(self) -> None:
        while self._pool.has_room() and time.monotonic() >= self._look_again:
            cell = self._desk.claim()
            if cell is None:
                # Those that are left are with other drivers; their locks are not asked for at every turn.
                self._look_again = time.monotonic() + WAIT_SECONDS if self._running else 0.0
                return
            self._running[cell.key] = cell
            self._pool.submit(cell)

    def _take(self, news: News) -> None:
        cell = self._running[news.key]
        if isinstance(news, Lost):
            self._lose(cell, news.reason)
        elif isinstance(news, Brought):
            self._receive(cell, news.delivery)
        elif news.event == BEGUN:
            self._begin(cell)
        else:
            self._desk.event(cell, news.event)

    def _begin(self, cell: PlannedCell) -> None:
        if cell.key not in self._begun:
            self._begun.add(cell.key)
            self._desk.started(cell)

    def _receive(self, cell: PlannedCell, delivery: Delivery) -> None:
        commit(self._desk.run.folder(cell.key), delivery.files)
        if delivery.status == "missing" and not self._desk.stop():
            self._supply(cell, delivery.missing)
            return
        if delivery.status == "interrupted" and not self._desk.stop():
            self._lose(cell, "it was told to stop on its machine")
            return
        if delivery.status == "failed":
            self._desk.refuse_full_disk()
        if delivery.status in {"done", "failed"}:
            self._end(cell, delivery.failure)
        else:
            self._let_go(cell)

    def _supply(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        asked = {(cell.key, what) for what in missing}
        if asked & self._supplied:
            self._fail(cell, f"a worker still lacks the cell's {' and '.join(missing)} that it was sent")
            return
        self._supplied |= asked
        try:
            self._pool.supply(cell, missing)
        except Exception as error:  # noqa: BLE001 - an image that cannot be read fails its cells, not the run
            self._end(cell, failure_of(cell.key, cell.spec.as_dict(), error))
        else:
            self._pool.submit(cell)

    def _lose(self, cell: PlannedCell, reason: str) -> None:
        self._losses[cell.key] += 1
        self._begin(cell)
        self._desk.event(cell, {"event": "lost", "reason": reason})
        self._begun.discard(cell.key)
        if self._desk.stop():
            self._let_go(cell)
        elif self._losses[cell.key] < MAX_LOSSES:
            self._running.pop(cell.key)
            self._desk.put_back(cell)
        else:
            self._fail(cell, f"its worker died {MAX_LOSSES} times, at last: {reason}")

    def _fail(self, cell: PlannedCell, error: str) -> None:
        self._end(cell, failure_record(cell.key, cell.spec.as_dict(), error))

    def _end(self, cell: PlannedCell, failure: dict[str, Any] | None) -> None:
        # The word that it began may be slower than the result, or was never said by one that failed at once.
        self._begin(cell)
        self._desk.ended(cell, failure)
        self._let_go(cell)

    def _let_go(self, cell: PlannedCell) -> None:
        self._desk.release(self._running.pop(cell.key))
