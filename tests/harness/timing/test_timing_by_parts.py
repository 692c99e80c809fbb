"""Batch times by part: measured once for what they describe, kept by key, and said in every row that they describe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.config import Protocol, Runtime, load_protocol
from bench.harness.timing import times, workbench
from bench.harness.timing.parts import Asked, Timed
from bench.harness.timing.times import measure_all, own_or_joint, timing_row
from bench.store.run import Run
from models.registry import MODELS

CPU = torch.device("cpu")


def asked(model: str, **fields: Any) -> Asked:
    small = {"image_size": 32, "timing_batch_size": 2, "weights": "none", **fields}
    return Asked(MODELS.get(model), 3, 32, Protocol(**small), CPU)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "_known", {})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts in the order in which they are measured."""
    found: list[str] = []
    real = times._measure

    def noting(group: list[Timed], *rest: Any) -> None:
        found.extend(f"{part.part} of {part.asked.model.name}" for part in group)
        real(group, *rest)

    monkeypatch.setattr(times, "_measure", noting)
    return found


def nothing(event: dict[str, Any]) -> None:
    """Listen."""


def test_a_backbone_that_heads_share_is_timed_once(tmp_path: Path, measured: list[str]) -> None:
    wanted = [asked("deepmedix@tiny"), asked("deepmedix-noskip@tiny"), asked("linear@tiny")]
    measure_all(wanted, tmp_path, "quick", nothing)
    assert sum(name.startswith("backbone") for name in measured) == 1
    assert sum(name.startswith("head") for name in measured) == 3
    assert len(list(tmp_path.glob("*.json"))) == 4
    rows = [timing_row(each, tmp_path, "quick", nothing) for each in wanted]
    assert len(measured) == 4
    assert len({row["timing_keys"][0] for row in rows}) == 1
    assert len({row["timing_keys"][1] for row in rows}) == 3


@pytest.mark.parametrize(
    "change", [{"timing_batch_size": 4}, {"tuning": "head"}, {"channels_last": False}, {"optimizer": "sgd"}]
)
def test_what_times_depend_on_changes_their_key(change: dict[str, Any]) -> None:
    before, after = (each.parts[0].key for each in (asked("linear@tiny"), asked("linear@tiny", **change)))
    assert before != after
    same = asked("linear@tiny", epochs=7, learning_rate=0.5)
    assert same.parts[0].key == before


def test_a_row_is_the_sum_of_its_parts_and_says_when_the_machine_was_busy(tmp_path: Path) -> None:
    network = asked("linear@tiny")
    times = {"backbone": {"infer": [10.0] * 9, "train": [30.0] * 9}, "head": {"infer": [1.0] * 9, "train": [2.0] * 9}}
    for part in network.parts:
        energy = dict.fromkeys(times[part.part])
        record = {"mode": "full", "ms": times[part.part], "energy_j": energy, "busy": 0.3, "peak_memory_mb": 5.0}
        (tmp_path / f"{part.key}.json").write_text(json.dumps(record))
    row = timing_row(network, tmp_path, "full", nothing)
    assert (row["infer_batch_ms"], row["train_batch_ms"], row["peak_memory_mb"]) == (11.0, 32.0, 5.0)
    assert (row["train_batch_ms_low"], row["train_batch_ms_high"], row["train_batch_ms_p95"]) == (32.0, 32.0, 32.0)
    assert (row["machine_busy"], row["timed_while_busy"]) == (0.3, True)
    assert "head_train_batch_ms" not in row


def test_a_tuned_head_tells_its_own_step_and_what_a_user_runs(tmp_path: Path) -> None:
    row = timing_row(asked("deepmedix@tiny", tuning="head"), tmp_path, "full", nothing)
    assert row["train_batch_ms"] is None
    assert 0 < row["head_train_batch_ms_low"] <= row["head_train_batch_ms"] <= row["head_train_batch_ms_high"]
    assert 0 < row["infer_batch_ms"] <= row["infer_batch_ms_p95"]
    assert row["peak_memory_mb"] > 0


def test_quick_times_are_measured_again_where_full_ones_are_asked_for(tmp_path: Path, measured: list[str]) -> None:
    network = asked("linear@tiny")
    quick = timing_row(network, tmp_path, "quick", nothing)
    assert quick["batches"] <= 10
    assert quick["peak_memory_mb"] is None
    full = timing_row(network, tmp_path, "full", nothing)
    assert full["peak_memory_mb"] > 0
    timing_row(network, tmp_path, "quick", nothing)
    assert len(measured) == 4
    assert timing_row(network, tmp_path, "off", nothing) == {}


def test_times_that_cannot_be_read_are_measured_again(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = asked("linear@tiny")
    timing_row(network, tmp_path, "quick", nothing)
    for text in ("{", "[]", '{"mode": "quick"}', '{"mode": 7, "ms": {"infer": "fast"}}'):
        monkeypatch.setattr(times, "_known", {})
        measured.clear()
        for path in tmp_path.glob("*.json"):
            path.write_text(text)
        assert timing_row(network, tmp_path, "quick", nothing)["infer_batch_ms"] > 0
        assert len(measured) == 2


def test_another_network_that_cannot_be_timed_fails_its_own_cell_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workbench._head

    def failing(network: Asked) -> torch.nn.Module:
        if network.model.name == "deepmedix@tiny":
            raise RuntimeError("too large")
        return real(network)

    monkeypatch.setattr(workbench, "_head", failing)
    good, bad = asked("linear@tiny"), asked("deepmedix@tiny")
    row = own_or_joint(good, [bad], tmp_path, "quick", nothing)
    assert row["infer_batch_ms"] > 0
    assert row["timed_alone"] == "too large"
    with pytest.raises(RuntimeError, match="too large"):
        own_or_joint(bad, [good], tmp_path, "quick", nothing)


def test_a_run_keeps_its_times_and_off_leaves_them_out(
    small_plan: Callable[..., Any], run_plan: Callable[..., Any], tmp_path: Path
) -> None:
    from bench.executors.run import execute

    plan = small_plan("linear@tiny,deepmedix@tiny")
    for mode in ("quick", "off"):
        run = Run.create(tmp_path / mode)
        assert execute(plan, run, Runtime(progress="none", timing=mode), []).done == 2
        rows = [cell.result["timing"] for cell in run.cells() if cell.result]
        kept = {path.stem for path in (run.path / "timing").glob("*.json")}
        assert kept == {key for row in rows for key in row["timing_keys"]} if mode == "quick" else not kept
        assert [bool(row) for row in rows] == [mode == "quick"] * 2


def test_the_plan_says_what_timing_will_take(small_plan: Callable[..., Any], tmp_path: Path) -> None:
    from bench.executors.estimate import estimate_seconds

    plan = small_plan("deepmedix@tiny,deepmedix-gmp@tiny")
    run = Run(tmp_path)
    found = {mode: estimate_seconds(plan, plan.cells, run, mode) for mode in ("off", "quick", "full")}
    assert found["off"].timing == 0 < found["quick"].timing < found["full"].timing
    assert all(each.timing < each.seconds for each in found.values())
    assert np.isfinite(found["full"].seconds)


def test_an_unknown_mode_is_one_sentence() -> None:
    from bench.core.config import make_runtime
    from bench.core.errors import UserError

    with pytest.raises(UserError, match="--timing 'fast'"):
        make_runtime(timing="fast")
    assert load_protocol("demo").timing_batches == 30
