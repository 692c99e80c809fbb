"""What the driver does with what workers say, whatever the workers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.executors.driver import Driver, Stop
from bench.executors.pool import WorkerEvent, WorkerLost, WorkerMessage, WorkerResult, drive
from bench.executors.transfer import BEGUN, TaskResult
from bench.harness.plan import PlannedCell
from bench.store.run import Run


class Script:
    """One worker that says, of each attempt at a cell, what it was told to."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self._key = ""
        self.provided: list[Any] = []
        self.stops = 0

    def has_room(self) -> bool:
        return not self._key

    def submit(self, cell: PlannedCell) -> None:
        self._key = cell.key

    def provide(self, cell: PlannedCell, missing: Any) -> None:
        self.provided.append(missing)

    def poll(self, timeout: float) -> list[WorkerMessage]:
        kind, *about = self._messages.pop(0)
        key, self._key = self._key, ""
        return [kind(key, *about)]

    def request_stop(self) -> None:
        self.stops += 1


@pytest.fixture
def driver(grid: Any, heard: Any, tmp_path: Path) -> Driver:
    return Driver(grid("linear@tiny"), Run.create(tmp_path / "run"), Runtime(), [heard()], Stop())


def problem(driver: Driver) -> str:
    (cell,) = driver.plan.cells
    assert not driver.held
    return driver.run.cell(cell.key, {}).problem


LACKING = (WorkerResult, TaskResult("missing", missing=("images",)))
FAILED = (WorkerResult, TaskResult("failed", failure={"error": "ValueError: no such luck"}))


def test_what_a_worker_lacks_is_brought_and_the_cell_submitted_again(driver: Driver) -> None:
    pool = Script(LACKING, FAILED)
    drive(driver, pool)
    assert pool.provided == [("images",)]
    assert problem(driver) == "ValueError: no such luck"


def test_a_worker_that_lacks_what_it_was_sent_fails_the_cell_and_no_loop(driver: Driver) -> None:
    drive(driver, Script(LACKING, LACKING))
    assert problem(driver) == "a worker still lacks the cell's images that it was sent"


def test_what_cannot_be_brought_fails_the_cell_with_the_reason(driver: Driver) -> None:
    pool = Script(LACKING)

    def unreadable(cell: PlannedCell, missing: Any) -> None:
        raise UserError("image 7 cannot be read")

    pool.provide = unreadable  # type: ignore[method-assign]
    drive(driver, pool)
    assert problem(driver) == "image 7 cannot be read"


def test_the_third_loss_of_a_cell_is_its_failure_and_each_begin_is_told(driver: Driver) -> None:
    drive(driver, Script((WorkerLost, "one"), (WorkerLost, "two"), (WorkerLost, "three")))
    assert problem(driver) == "its worker died 3 times, at last: three"
    (listener,) = driver.listeners
    assert [event["reason"] for event in listener.lost()] == ["one", "two", "three"]  # type: ignore[attr-defined]
    assert len(listener.ended) == 1  # type: ignore[attr-defined]


def test_a_begin_is_told_once_however_late_the_word_of_it_comes(driver: Driver) -> None:
    drive(driver, Script(FAILED))
    (listener,) = driver.listeners
    assert (len(listener.begun), len(listener.ended)) == (1, 1)  # type: ignore[attr-defined]


def test_a_stop_asks_the_workers_and_hands_out_nothing_more(driver: Driver) -> None:
    class Stopping(Script):
        def poll(self, timeout: float) -> list[WorkerMessage]:
            driver.stop.requested = True
            if self.stops == 0:
                return [WorkerEvent(self._key, BEGUN)]
            return super().poll(timeout)

    pool = Stopping((WorkerResult, TaskResult("interrupted", files={"last.ckpt": b"state"})))
    drive(driver, pool)
    assert pool.stops >= 1
    assert problem(driver) == "not run yet"
    (cell,) = driver.plan.cells
    assert (driver.run.folder(cell.key) / "last.ckpt").read_bytes() == b"state"


def test_a_worker_that_was_told_to_stop_by_others_has_lost_its_cell(driver: Driver) -> None:
    drive(driver, Script((WorkerResult, TaskResult("interrupted")), FAILED))
    (listener,) = driver.listeners
    assert len(listener.lost()) == 1  # type: ignore[attr-defined]
    assert problem(driver) == "ValueError: no such luck"


def test_a_full_disk_ends_the_run_and_lets_go_of_its_cells(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.executors.driver.LOW_DISK_BYTES", 2**80)
    with pytest.raises(UserError, match="is full; free some space and start again"):
        drive(driver, Script(FAILED))
    assert not driver.held


def test_cells_of_another_driver_are_waited_for(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.executors.driver.WAIT_SECONDS", 0.01)
    (cell,) = driver.plan.cells
    folder = driver.run.folder(cell.key)
    folder.mkdir(parents=True)
    other = FileLock(folder / ".lock")
    other.acquire()
    waited: list[int] = []

    def waiting(count: int) -> None:
        waited.append(count)
        other.release()

    driver.listeners[0].waiting = waiting  # type: ignore[method-assign]
    drive(driver, Script(FAILED))
    assert waited == [1]
