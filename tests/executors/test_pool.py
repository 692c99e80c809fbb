"""What the driver does with what workers say, whatever the workers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.executors.driver import Desk, Stop
from bench.executors.pool import Brought, Lost, News, Told, drive
from bench.executors.transfer import BEGUN, Delivery
from bench.harness.plan import PlannedCell
from bench.store.run import Run


class Script:
    """One worker that says, of each attempt at a cell, what it was told to."""

    def __init__(self, *news: Any) -> None:
        self._news = list(news)
        self._key = ""
        self.supplied: list[Any] = []
        self.stops = 0

    def has_room(self) -> bool:
        return not self._key

    def submit(self, cell: PlannedCell) -> None:
        self._key = cell.key

    def supply(self, cell: PlannedCell, missing: Any) -> None:
        self.supplied.append(missing)

    def hear(self, timeout: float) -> list[News]:
        kind, *about = self._news.pop(0)
        key, self._key = self._key, ""
        return [kind(key, *about)]

    def ask_to_stop(self) -> None:
        self.stops += 1


@pytest.fixture
def desk(grid: Any, heard: Any, tmp_path: Path) -> Desk:
    return Desk(grid("linear@tiny"), Run.create(tmp_path / "run"), Runtime(), [heard()], Stop())


def problem(desk: Desk) -> str:
    (cell,) = desk.plan.cells
    assert not desk.held
    return desk.run.cell(cell.key, {}).problem


LACKING = (Brought, Delivery("missing", missing=("images",)))
FAILED = (Brought, Delivery("failed", failure={"error": "ValueError: no such luck"}))


def test_what_a_worker_lacks_is_brought_and_the_cell_submitted_again(desk: Desk) -> None:
    pool = Script(LACKING, FAILED)
    drive(desk, pool)
    assert pool.supplied == [("images",)]
    assert problem(desk) == "ValueError: no such luck"


def test_a_worker_that_lacks_what_it_was_sent_fails_the_cell_and_no_loop(desk: Desk) -> None:
    drive(desk, Script(LACKING, LACKING))
    assert problem(desk) == "a worker still lacks the cell's images that it was sent"


def test_what_cannot_be_brought_fails_the_cell_with_the_reason(desk: Desk) -> None:
    pool = Script(LACKING)

    def unreadable(cell: PlannedCell, missing: Any) -> None:
        raise UserError("image 7 cannot be read")

    pool.supply = unreadable  # type: ignore[method-assign]
    drive(desk, pool)
    assert problem(desk) == "image 7 cannot be read"


def test_the_third_loss_of_a_cell_is_its_failure_and_each_begin_is_told(desk: Desk) -> None:
    drive(desk, Script((Lost, "one"), (Lost, "two"), (Lost, "three")))
    assert problem(desk) == "its worker died 3 times, at last: three"
    (listener,) = desk.listeners
    assert [event["reason"] for event in listener.lost()] == ["one", "two", "three"]  # type: ignore[attr-defined]
    assert len(listener.ended) == 1  # type: ignore[attr-defined]


def test_a_begin_is_told_once_however_late_the_word_of_it_comes(desk: Desk) -> None:
    drive(desk, Script(FAILED))
    (listener,) = desk.listeners
    assert (len(listener.begun), len(listener.ended)) == (1, 1)  # type: ignore[attr-defined]


def test_a_stop_asks_the_workers_and_hands_out_nothing_more(desk: Desk) -> None:
    class Stopping(Script):
        def hear(self, timeout: float) -> list[News]:
            desk.stop.requested = True
            if self.stops == 0:
                return [Told(self._key, BEGUN)]
            return super().hear(timeout)

    pool = Stopping((Brought, Delivery("interrupted", files={"last.ckpt": b"state"})))
    drive(desk, pool)
    assert pool.stops >= 1
    assert problem(desk) == "not run yet"
    (cell,) = desk.plan.cells
    assert (desk.run.folder(cell.key) / "last.ckpt").read_bytes() == b"state"


def test_a_worker_that_was_told_to_stop_by_others_has_lost_its_cell(desk: Desk) -> None:
    drive(desk, Script((Brought, Delivery("interrupted")), FAILED))
    (listener,) = desk.listeners
    assert len(listener.lost()) == 1  # type: ignore[attr-defined]
    assert problem(desk) == "ValueError: no such luck"


def test_a_full_disk_ends_the_run_and_lets_go_of_its_cells(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.executors.driver.LOW_DISK_BYTES", 2**80)
    with pytest.raises(UserError, match="is full; free some space and start again"):
        drive(desk, Script(FAILED))
    assert not desk.held


def test_cells_of_another_driver_are_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.executors.driver.WAIT_SECONDS", 0.01)
    (cell,) = desk.plan.cells
    folder = desk.run.folder(cell.key)
    folder.mkdir(parents=True)
    other = FileLock(folder / ".lock")
    other.acquire()
    waited: list[int] = []

    def waiting(count: int) -> None:
        waited.append(count)
        other.release()

    desk.listeners[0].waiting = waiting  # type: ignore[method-assign]
    drive(desk, Script(FAILED))
    assert waited == [1]
