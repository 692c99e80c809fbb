"""Cells in processes side by side end as they do one after the other, whatever happens to the processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bench.core.config import Runtime
from bench.executors.processes import ending, runtime_of
from bench.executors.run import execute
from bench.store.layout import FAILURE
from bench.store.run import Run

TWO = Runtime(threads=1, jobs=2)


@pytest.mark.slow
def test_two_processes_leave_what_one_does(grid: Any, alone: Any, contents: Any, heard: Any, tmp_path: Path) -> None:
    plan = grid("linear@tiny,deepmedix@tiny", regimes="centralized,fedavg", overrides=("tuning=full",))
    listener = heard()
    summary = execute(plan, Run.create(tmp_path / "run"), TWO, [listener])
    assert (summary.done, summary.failed) == (4, 0)
    assert sorted(listener.begun) == sorted(listener.ended) == sorted(cell.key for cell in plan.cells)
    assert {event["event"] for _, event in listener.events} >= {"images", "epoch", "timing"}
    assert contents(tmp_path / "run") == alone(plan)
    results = [cell.result for cell in Run.open(tmp_path / "run").cells()]
    assert {result["machine"]["beside"] for result in results if result} == {2}
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_dead_workers_cell_goes_to_another_and_a_hopeless_one_is_a_row(
    grid: Any, alone: Any, contents: Any, heard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bullets = tmp_path / "bullets"
    bullets.mkdir()
    (bullets / "one").touch()
    monkeypatch.setenv("BENCH_TEST_BULLETS", str(bullets))
    plan = grid("linear@deadly,linear@tiny")
    listener = heard()
    assert execute(plan, Run.create(tmp_path / "run"), TWO, [listener]).done == 2
    assert [event["reason"] for event in listener.lost()] == ["killed by SIGKILL (out of memory?)"]
    assert contents(tmp_path / "run") == alone(plan)

    for number in range(5):
        (bullets / str(number)).touch()
    hopeless = grid("linear@deadly,linear@tiny,linear@broken", seeds="7,")
    summary = execute(hopeless, Run.create(tmp_path / "hopeless"), TWO, [])
    assert (summary.done, summary.failed) == (1, 2)
    problems = {cell.spec["model"]: cell for cell in Run.open(tmp_path / "hopeless").cells()}
    assert problems["linear@deadly"].problem.startswith("its worker died 3 times, at last: killed by SIGKILL")
    assert problems["linear@broken"].problem == "ValueError: no such luck"
    failure = json.loads((problems["linear@broken"].folder / FAILURE).read_text())
    assert "Traceback" in failure["traceback"]
    assert len(list(bullets.iterdir())) == 2


@pytest.mark.slow
def test_a_stopped_cell_goes_on_from_its_last_epoch(
    grid: Any, alone: Any, contents: Any, heard: Any, tmp_path: Path
) -> None:
    plan = grid("linear@tiny,deepmedix@tiny", overrides=("tuning=full", "epochs=4"))

    def interrupt(key: str, event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 1:
            # A scheduler tells the workers too; they leave it to the driver.
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    first = heard(interrupt)
    stopped = execute(plan, Run.create(tmp_path / "run"), TWO, [first])
    assert stopped.stopped
    assert not first.lost()
    assert stopped.done < 2
    assert not multiprocessing.active_children()
    again = heard()
    assert execute(plan, Run.create(tmp_path / "run"), TWO, [again]).done == 2
    reached = {key for key, event in first.events if event["event"] == "epoch"}
    assert reached
    assert all(event["epoch"] > 0 for key, event in again.events if event["event"] == "epoch" and key in reached)
    assert contents(tmp_path / "run") == alone(plan)


def test_a_worker_gets_its_share_of_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert runtime_of(Runtime(jobs=cores, device="cpu"), 0).threads == 1
    assert runtime_of(Runtime(jobs=1, device="cpu"), 0).threads == cores
    assert runtime_of(Runtime(jobs=4, threads=3, device="cpu"), 2).threads == 3


def test_gpus_are_dealt_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [runtime_of(Runtime(jobs=3), number).device for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert runtime_of(Runtime(jobs=3, device="cuda:1"), 0).device == "cuda:1"
    assert runtime_of(Runtime(jobs=3, device="cpu"), 1).device == "cpu"


def test_how_a_process_ended_in_words() -> None:
    assert ending(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert ending(3) == "ended with exit code 3"
