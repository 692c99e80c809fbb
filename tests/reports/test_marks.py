"""An interval over the images of a single group is called too narrow in every format; earlier runs still open."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.measure.statistics.methods import METHODS, TOO_NARROW
from reports.write import compare, report, show_summary


@pytest.fixture
def one_group(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], predictions: Callable[..., dict[str, Any]]
) -> Any:
    run = new_run()
    for model in ("deepmedix", "mobilenet_v2"):
        table = predictions(model, "br35h", 0)
        table["group"] = ["fold1"] * len(table["label"])
        run.done(spec(model, "br35h", 0), table, interval_method=METHODS["image"])
    return run


def test_every_format_marks_an_interval_over_the_images_of_one_group(one_group: Any) -> None:
    outcome = report(one_group.path)
    for name in ("html", "md", "latex"):
        written = "".join(Path(file).read_text(encoding="utf-8") for file in outcome["files"][name])
        assert f"] ({TOO_NARROW})" in written, name
    results, summary = (pd.read_csv(path) for path in outcome["files"]["csv"] if path.endswith(".csv"))
    assert set(results["interval_method"]) == {METHODS["image"]}
    assert set(summary["interval_method"]) == {METHODS["image"]}
    assert set(summary["accuracy_over"]) == {TOO_NARROW}
    assert outcome["best"][0]["interval_method"] == METHODS["image"]
    assert TOO_NARROW in outcome["best"][0]["verdict"]
    assert any(TOO_NARROW in note for note in outcome["notes"])
    terminal = StringIO()
    show_summary(one_group.path, Console(file=terminal, width=200))
    assert f"({TOO_NARROW})" in terminal.getvalue()


def test_a_comparison_over_the_images_of_one_group_says_so(one_group: Any) -> None:
    found = compare(one_group.path, "deepmedix", "mobilenet_v2")
    assert all(TOO_NARROW in step["method"] for step in found["conditions"][0]["columns"].values())
    assert TOO_NARROW in found["tables"][0]


@pytest.mark.parametrize(("groups", "words"), [(60, "over groups"), (4, f"over {TOO_NARROW}")])
def test_an_earlier_run_opens_and_its_method_is_named(
    new_run: Callable[[], Any],
    spec: Callable[..., dict[str, Any]],
    predictions: Callable[..., dict[str, Any]],
    groups: int,
    words: str,
) -> None:
    run = new_run()
    table = predictions("deepmedix", "br35h", 0)
    table["group"] = np.array([f"p{index % groups}" for index in range(len(table["label"]))])
    folder = run.path / "cells" / run.done(spec("deepmedix", "br35h", 0), table)
    assert "interval_method" not in json.loads((folder / "result.json").read_text())
    outcome = report(run.path, ("csv", "md"))
    assert f"percentile bootstrap of an earlier version {words}" in outcome["best"][0]["interval_method"]
    assert any("earlier version" in note for note in outcome["notes"])
