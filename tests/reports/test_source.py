"""Deleting, truncating or corrupting any one file of a run: the report names it and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from reports.load import source as subject
from reports.write import report

FILES = (
    "plan.json", "environment.json", "cell.json", "result.json", "predictions.parquet", "history.parquet",
    "predictor/weights.safetensors",
)  # fmt: skip


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\x00garbage" * 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def small_run(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> Path:
    run = new_run()
    for model in ("deepmedix", "deepmedix-noskip", "resnet18"):
        run.done(spec(model, "br35h", 0))
    return run.path


def path_of(run: Path, name: str) -> Path:
    if name in ("plan.json", "environment.json"):
        return run / name
    return sorted((run / "cells").iterdir())[0] / name


def test_the_weights_of_an_earlier_version_are_no_problem(small_run: Path) -> None:
    for weights in small_run.glob("cells/*/predictor/weights.safetensors"):
        weights.rename(weights.parent.with_name("best.safetensors"))
    assert report(small_run)["problems"] == []


@pytest.mark.parametrize("harm", [delete, truncate, garble, empty])
@pytest.mark.parametrize("name", FILES)
def test_any_one_file_is_named_and_the_report_goes_on(small_run: Path, name: str, harm: Callable[[Path], None]) -> None:
    path = path_of(small_run, name)
    harm(path)
    outcome = report(small_run)
    page = Path(outcome["files"]["html"][0]).read_text()
    named = [problem for problem in outcome["problems"] if str(path) in problem]
    if name == "result.json" and harm is delete:
        # A cell without a result is a cell that was not run: a row, not a broken file.
        assert "missing, not run yet" in page
    else:
        assert len(named) == 1, outcome["problems"]
        assert str(path) in page
    assert outcome["cells"] == 3
    assert outcome["done"] == (2 if name == "result.json" else 3)
    assert "resnet18" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": None}, "metrics: input should be a valid dictionary"),
        ({"metrics": {"accuracy": "high"}}, "metrics.accuracy: input should be a valid number"),
        ({"intervals": {"accuracy": [1]}}, "intervals.accuracy: list should have at least 2 items"),
        ({"data": {}}, "data.classes: field required"),
        ({"key": "another"}, "belongs to cell another"),
        ({"schema": 99}, "layout 99"),
    ],
)
def test_a_result_that_parses_but_cannot_be_is_corrupt(small_run: Path, change: dict[str, Any], message: str) -> None:
    path = path_of(small_run, "result.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found = subject.load(small_run)
    assert [cell.status for cell in found.cells].count("corrupt") == 1
    assert any(message in problem and str(path) in problem for problem in found.problems)
    report(small_run)


def test_predictions_of_another_cell_are_noticed(small_run: Path) -> None:
    first, second = sorted((small_run / "cells").iterdir())[:2]
    shutil.copy(second / "predictions.parquet", first / "predictions.parquet")
    found = subject.load(small_run)
    cell = next(cell for cell in found.cells if cell.folder == first)
    assert found.predictions(cell) is None
    assert "does not give the accuracy" in found.problems[-1]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        subject.load(tmp_path)


def test_another_layout_is_refused(small_run: Path) -> None:
    path = small_run / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 7}))
    with pytest.raises(UserError, match="made by another version"):
        subject.load(small_run)


def test_reading_never_writes(full_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in full_run.rglob("*") if path.is_file()}
    found = subject.load(full_run)
    found.read_ahead()
    after = {path: path.stat().st_mtime_ns for path in full_run.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert found.problems == []
