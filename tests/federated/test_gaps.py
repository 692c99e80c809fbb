"""The gap to the twin, and the way there, from files made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bench.core.atomic import write_json
from bench.store import HISTORY, PREDICTIONS, RESULT, Run, write_table
from federated.gaps import gap_rows, to_reach

CLASSES = ["a", "b"]


def store(run: Run, regime: str, right: list[bool], history: list[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Write a finished cell whose image i has label 0 and is decided rightly or not."""
    key = f"{regime}-{seed}"
    spec = {"model": "m", "dataset": "d", "split": "grouped", "regime": regime, "seed": seed, "protocol": {}}
    folder = run.folder(key)
    accuracy = sum(right) / len(right)
    ids = [f"i{n}" for n in range(len(right))]
    first = [0.9 if hit else 0.1 for hit in right]
    columns = {"image_id": ids, "group": ids, "site": [""] * len(ids), "label": [0] * len(ids)}
    write_table(folder / PREDICTIONS, pa.table({**columns, "p_a": first, "p_b": [1 - p for p in first]}))
    write_table(folder / HISTORY, pa.Table.from_pylist(history))
    result = {"schema": 1, "key": key, "cell": spec, "metrics": {"accuracy": accuracy}, "data": {"classes": CLASSES}}
    write_json(folder / RESULT, {**result, "intervals": {}, "cost": {}, "timing": {}, "notes": [], "seconds": 1.0})
    return {"key": key, "cell": spec}


def rounds(accuracies: list[float]) -> list[dict[str, Any]]:
    return [{"round": n + 1, "val_accuracy": a, "up_mb": 1.0, "down_mb": 2.0} for n, a in enumerate(accuracies)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run")
    twin = [{"epoch": 0, "val_accuracy": 0.5}, {"epoch": 1, "val_accuracy": 0.8}]
    cells = [
        store(made, "twin", [True] * 16 + [False] * 4, twin),
        store(made, "fedavg", [True] * 12 + [False] * 8, rounds([0.4, 0.75, 0.77])),
        store(made, "scaffold", [True] * 16 + [False] * 4, rounds([0.8])),
    ]
    made.write_plan(cells, "test")
    return made


def test_the_gap_is_paired_and_counts_the_way(run: Run) -> None:
    fedavg, scaffold = gap_rows(run.path)
    assert fedavg["regime"] == "fedavg"
    assert fedavg["gap"] == pytest.approx(-0.2)
    assert fedavg["low"] <= -0.2 <= fedavg["high"] < 0.05
    assert (fedavg["rounds_90"], fedavg["mb_90"]) == (2.0, 6.0)
    assert (fedavg["rounds_95"], fedavg["mb_95"]) == (3.0, 9.0)
    assert fedavg["rounds_99"] is None
    assert scaffold["gap"] == 0
    assert scaffold["rounds_99"] == 1.0


def test_a_run_without_a_twin_has_no_gaps(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "other")
    made.write_plan([store(made, "fedavg", [True] * 4, rounds([0.5]))], "test")
    assert gap_rows(made.path) == []


def test_rounds_without_validation_are_passed_over() -> None:
    history = [{"round": 1, "val_accuracy": None, "up_mb": 1.0, "down_mb": 1.0}, *rounds([0.1, 0.9])[1:]]
    assert to_reach(history, 0.9) == (2, 5.0)
    assert to_reach(history, 0.95) is None
