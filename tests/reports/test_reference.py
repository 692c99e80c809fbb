"""The majority row: what the most frequent training class gives on each condition's own test images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.content import drawing
from reports.tables.markup import markdown
from reports.write import report


@pytest.fixture
def run(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> Any:
    made = new_run()
    for model in ("deepmedix", "resnet18"):
        key = made.done(spec(model, "br35h", 0))
        path = made.path / "cells" / key / "result.json"
        result = json.loads(path.read_text())
        result["data"]["majority"] = result["data"]["classes"][0]
        path.write_text(json.dumps(result))
    return made


def test_it_is_the_share_of_that_class_and_chance_elsewhere(run: Any) -> None:
    drawn = drawing(run.path)
    row = drawn.references[0]
    given = drawn.source.predictions(drawn.source.cells[0])
    assert given is not None
    share = float(np.mean(given.labels == 0))
    accuracy = row.metric("accuracy")
    assert accuracy is not None
    assert accuracy.mean == pytest.approx(share)
    assert accuracy.low < share < accuracy.high
    assert row.metric("balanced_accuracy").mean == pytest.approx(1 / len(given.classes))  # type: ignore[union-attr]
    assert row.metric("roc_auc").mean == pytest.approx(0.5)  # type: ignore[union-attr]
    assert len(row.cells) == 1


def test_it_stands_in_every_table_and_is_no_model(run: Any) -> None:
    files = report(run.path)["files"]
    text = Path(files["md"][0]).read_text()
    assert "| majority class |" in text
    assert "Majority class: every test image" in text
    page = Path(files["html"][0]).read_text()
    assert '"references":[{' in page.replace('": ', '":').replace(", ", ",")
    drawn = drawing(run.path)
    assert {row.model for ranking in drawn.rankings for row in ranking.rows} == {"deepmedix", "resnet18"}
    assert all("majority" not in markdown(table) for table in drawn.paper)


def test_runs_that_did_not_store_the_class_have_no_such_row(new_run: Callable[[], Any], spec: Any) -> None:
    made = new_run()
    made.done(spec("deepmedix", "br35h", 0))
    assert drawing(made.path).references == []
