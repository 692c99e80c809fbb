"""Running a grid: what is stored, what is shared, what survives."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from sklearn.metrics import accuracy_score, roc_auc_score

import bench.executors.driver
import bench.executors.run
import bench.executors.serial
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.executors.driver import Stop
from bench.harness.cell import run_cell
from bench.harness.inputs import CellJob
from bench.harness.plan import Plan
from bench.store.layout import FAILURE, RESULT
from bench.store.run import Run
from models.recipes.callbacks import Interrupted
from models.recipes.context import FitContext, FitOutcome
from models.recipes.gradient import fit


def test_a_cell_leaves_everything_that_its_metrics_can_be_checked_with(
    small_plan: Any, run_plan: Any, tmp_path: Path
) -> None:
    plan = small_plan()
    assert run_plan(plan).done == 1
    (cell,) = Run.open(tmp_path / "run").cells()
    assert cell.result is not None
    assert {file.name for file in cell.folder.iterdir()} - {".lock"} == {
        "cell.json", "history.parquet", "predictions.parquet", "predictor", "result.json"
    }  # fmt: skip
    assert {file.name for file in (cell.folder / "predictor").iterdir()} == {"predictor.json", "weights.safetensors"}
    table = cell.predictions()
    labels = table["label"].to_numpy()
    shares = np.stack([table[f"p_{name}"].to_numpy() for name in plan.tables["phantom-brain"].classes], axis=1)
    metrics = cell.result["metrics"]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, shares.argmax(1)))
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"), abs=1e-6)
    low, high = cell.result["intervals"]["accuracy"]
    assert low <= metrics["accuracy"] <= high
    assert cell.history().column("epoch").to_pylist() == [0, 1]
    assert cell.result["data"]["synthetic"] is True
    assert cell.result["data"]["n_test"] == len(labels)
    assert any("stored maps of each image, without augmentation" in note for note in cell.result["notes"])


def test_parts_do_not_overlap_and_the_fit_never_sees_the_test_part(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[FitContext] = []

    def spying(context: FitContext) -> FitOutcome:
        seen.append(context)
        return fit(context)

    monkeypatch.setattr("models.recipes.gradient.fit", spying)
    run_plan(small_plan(overrides=("tuning=full",)))
    (cell,) = Run.open(tmp_path / "run").cells()
    tested = set(cell.predictions()["image_id"].to_pylist())
    fitted = {*seen[0].data.train.ids, *seen[0].data.val.ids}
    assert tested
    assert not tested & fitted
    assert set(vars(seen[0].data)) == {"train", "val"}


def test_a_second_start_runs_nothing_again(small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan("linear@tiny,deepmedix@tiny")
    assert run_plan(plan).done == 2

    def never(job: CellJob) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(bench.executors.serial, "run_cell", never)
    assert run_plan(plan).done == 2


def test_the_variants_share_one_pass_of_the_backbone(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    passes = []
    plan = small_plan("deepmedix@tiny,deepmedix-wide@tiny,deepmedix-gmp@tiny")
    run = Run.create(tmp_path / "run")
    for cell in plan.cells:
        events: list[dict[str, Any]] = []
        run_cell(CellJob(cell, plan.tables["phantom-brain"], run.folder(cell.key), Runtime(), events.append))
        passes.append(sum(event["event"] == "features" for event in events))
    assert passes[0] > 0
    assert passes[1:] == [0, 0]


def test_a_failure_is_a_row_and_is_tried_again(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = small_plan("linear@tiny,deepmedix@tiny")
    broken = plan.cells[0].key

    def failing(job: CellJob) -> None:
        if job.planned.key == broken:
            raise ValueError("no such luck")
        run_cell(job)

    monkeypatch.setattr(bench.executors.serial, "run_cell", failing)
    summary = run_plan(plan)
    assert (summary.done, summary.failed) == (1, 1)
    run = Run.open(tmp_path / "run")
    stored = run.cells()[0]
    assert (stored.status, stored.problem) == ("failed", "ValueError: no such luck")
    assert "Traceback" in json.loads((stored.folder / FAILURE).read_text())["traceback"]
    assert run.frame().loc[0, "problem"] == "ValueError: no such luck"
    monkeypatch.setattr(bench.executors.serial, "run_cell", run_cell)
    assert run_plan(plan).done == 2
    assert not (stored.folder / FAILURE).exists()


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 1}', "[]"])
def test_a_corrupted_result_is_named_and_made_again(
    small_plan: Any, run_plan: Any, tmp_path: Path, damage: str
) -> None:
    plan = small_plan()
    run_plan(plan)
    run = Run.open(tmp_path / "run")
    result = run.cells()[0].folder / RESULT
    whole = json.loads(result.read_text())
    result.write_text(damage)
    (cell,) = run.cells()
    assert cell.status == "corrupt"
    assert str(result) in cell.problem
    assert run_plan(plan).done == 1
    again = json.loads(result.read_text())
    assert (again["metrics"]["accuracy"], again["intervals"]) == (whole["metrics"]["accuracy"], whole["intervals"])


def test_a_cell_that_another_process_holds_is_left_to_it(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    plan = small_plan("linear@tiny,deepmedix@tiny")
    run = Run.create(tmp_path / "run")
    held, free = (run.folder(cell.key) for cell in plan.cells)
    held.mkdir(parents=True)
    waited: list[int] = []

    class Release:
        """Lets go when the run says that it waits."""

        def __init__(self) -> None:
            self.lock = FileLock(held / ".lock", thread_local=False)
            self.lock.acquire()

        def __getattr__(self, name: str) -> Any:
            return lambda *about: None

        def waiting(self, count: int) -> None:
            waited.append(count)
            assert (free / RESULT).is_file()
            self.lock.release()

    summary = bench.executors.run.execute(plan, run, Runtime(), [Release()])
    assert waited == [1]
    assert summary.done == 2


def test_stopping_keeps_what_is_done(small_plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = small_plan("linear@tiny,deepmedix@tiny")
    done: list[str] = []

    def stopping(job: CellJob) -> None:
        if done:
            assert isinstance(job.should_stop, Stop)
            job.should_stop.requested = True
            raise Interrupted
        run_cell(job)
        done.append(job.planned.key)

    monkeypatch.setattr(bench.executors.serial, "run_cell", stopping)
    summary = bench.executors.run.execute(plan, Run.create(tmp_path / "run"), Runtime(), [])
    assert (summary.done, summary.failed, summary.stopped) == (1, 1, True)
    states = [cell.status for cell in Run.open(tmp_path / "run").cells()]
    assert states == ["done", "missing"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_fit_after_its_step_and_the_run_goes_on_later(
    small_plan: Any, tmp_path: Path, number: signal.Signals
) -> None:
    plan = small_plan(overrides=("tuning=full", "epochs=4"))
    epochs: list[int] = []

    class Sender:
        """Sends the signal at the end of the second epoch, once."""

        def __getattr__(self, name: str) -> Any:
            return lambda *about: None

        def event(self, key: str, event: dict[str, Any]) -> None:
            if event["event"] == "epoch":
                epochs.append(event["epoch"])
                if epochs == [0, 1]:
                    os.kill(os.getpid(), number)

    summary = bench.executors.run.execute(plan, Run.create(tmp_path / "run"), Runtime(), [Sender()])
    assert (summary.done, summary.stopped) == (0, True)
    assert bench.executors.run.execute(plan, Run.create(tmp_path / "run"), Runtime(), [Sender()]).done == 1
    assert epochs == [0, 1, 2, 3]


def test_out_of_memory_gets_one_more_try_in_halves(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[int] = []

    def greedy(context: FitContext) -> FitOutcome:
        tried.append(context.micro_batches)
        if context.micro_batches == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return fit(context)

    monkeypatch.setattr("models.recipes.gradient.fit", greedy)
    assert run_plan(small_plan()).done == 1
    assert tried == [1, 2]
    (cell,) = Run.open(tmp_path / "run").cells()
    assert cell.result is not None
    notes = cell.result["notes"]
    assert any("ran out of memory at batch 16" in note for note in notes)
    assert any("each batch of 16 images computed in 2 pieces" in note for note in notes)


def test_a_second_try_with_whole_batches_claims_no_pieces(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A regime of a third party may not divide its batches; the memory may have been another process's."""

    def whole(context: FitContext) -> FitOutcome:
        if context.micro_batches == 1:
            raise MemoryError
        return fit(replace(context, micro_batches=1))

    monkeypatch.setattr("models.recipes.gradient.fit", whole)
    assert run_plan(small_plan()).done == 1
    (cell,) = Run.open(tmp_path / "run").cells()
    assert cell.result is not None
    notes = cell.result["notes"]
    assert "ran out of memory at batch 16 (MemoryError) and was fitted again" in notes
    assert not any("pieces" in note or "halves" in note for note in notes)


def test_batches_that_cannot_be_divided_are_not_tried_again(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def greedy(context: FitContext) -> FitOutcome:
        tried.append(context.micro_batches)
        raise MemoryError("no room")

    monkeypatch.setattr("models.recipes.gradient.fit", greedy)
    assert run_plan(small_plan(overrides=("batch_size=3",))).failed == 1
    assert tried == [1]


def test_a_full_disk_stops_the_run_with_one_sentence(
    small_plan: Any, run_plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(job: CellJob) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(bench.executors.serial, "run_cell", failing)
    monkeypatch.setattr(bench.executors.driver, "LOW_DISK_BYTES", 2**80)
    with pytest.raises(UserError, match="is full; free some space and start again"):
        run_plan(small_plan())


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"schema": 99, "cells": []}')
    with pytest.raises(UserError, match=r"made by another version \(layout 99, this one writes 1\)"):
        Run.open(tmp_path)
    with pytest.raises(UserError, match="is no run"):
        Run.open(tmp_path / "nowhere")


def test_a_start_that_was_killed_before_its_plan_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".plan.lock").touch()
    assert Run.create(tmp_path / "run").plan() == []
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is no run"):
        Run.create(tmp_path / "run")


def test_two_seeds_differ_and_one_seed_repeats(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    def predictions(plan: Plan, name: str) -> list[Any]:
        run_plan(plan, name)
        return [cell.predictions() for cell in Run.open(tmp_path / name).cells()]

    zero, one = predictions(small_plan(seeds="2"), "first")
    again, _ = predictions(small_plan(seeds="2"), "second")
    assert zero.equals(again)
    assert not zero.equals(one)


def test_a_federated_cell_says_which_client_each_test_image_is_of(
    small_plan: Any, run_plan: Any, tmp_path: Path
) -> None:
    plan = small_plan(regimes="fedavg,centralized", overrides=("federated.clients=2",))
    assert run_plan(plan).done == 2
    by_regime = {cell.spec["regime"]: cell for cell in Run.open(tmp_path / "run").cells()}
    assert set(by_regime["fedavg"].predictions()["client"].to_pylist()) == {"client 1", "client 2"}
    assert "client" not in by_regime["centralized"].predictions().column_names
