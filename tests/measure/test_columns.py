"""The one list of columns: complete, read by everything, open to plugins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.gate.margins import load_margins
from bench.measure.columns import COLUMNS, QUALITY, Column, add_column, column, computed, names_of
from bench.measure.extra import extra_intervals, extra_quality
from bench.measure.quality import quality
from bench.measure.statistics.pooled import Paired, difference
from sweeps.objectives import columns, parse_objectives

ROOT = Path(__file__).parents[2]
CLASSES = ("a", "b", "c")


@pytest.fixture
def added() -> Iterator[Column]:
    """A plugin's column: the share of images whose label has a probability above a third."""

    def above(labels: np.ndarray, probabilities: np.ndarray) -> float:
        return float((probabilities[np.arange(labels.size), labels] > 1 / 3).mean())

    about = Column("above", "Above a third", "quality", "%", 1, "high", "test", True, "A test's own.", limits=(0, 1),
                   compute=above)  # fmt: skip
    yield add_column(about)
    del COLUMNS._items["above"]


def test_every_quality_metric_is_declared_and_nothing_else() -> None:
    found = quality(np.arange(3), np.eye(3), CLASSES)
    plain = {name for name in found if not name.startswith("recall_")}
    declared = {name for name in names_of(*QUALITY) if column(name).compute is None}
    assert plain == declared


def test_shown_values_and_units() -> None:
    assert column("accuracy").text(0.9312) == "93.1"
    assert column("brier").text(0.12345) == "0.123"
    assert column("recall_mel").text(None) == "–"
    assert column("client_accuracy_spread").scale == 100
    assert not column("val_worst_client_accuracy").listed
    assert column("val_worst_client_accuracy").part == "validation"


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="'accuracy' is registered twice"):
        add_column(column("accuracy"))


def test_trials_have_no_column_of_the_test_part() -> None:
    for regime in ("centralized", "fedavg", "local-only"):
        assert not set(columns(CLASSES, regime)) & set(names_of("federated", part="test"))
    assert "val_worst_client_accuracy" in columns(CLASSES, "fedavg")
    assert "val_worst_client_accuracy" not in columns(CLASSES, "centralized")
    assert "val_worst_local_model_accuracy" in columns(CLASSES, "local-only")


def test_an_added_column_is_measured_gated_searched_and_compared(added: Column, tmp_path: Path) -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    good, bad = np.full((6, 3), 0.2), np.full((6, 3), 0.2)
    good[np.arange(6), labels] = 0.6
    bad[np.arange(6), (labels + (np.arange(6) < 3)) % 3] = 0.6
    groups = np.array([f"g{n}" for n in range(6)])
    assert [one.name for one in computed()] == ["above"]
    assert extra_quality(labels, good) == {"above": 1.0}
    assert extra_quality(labels, bad) == {"above": 0.5}
    low, high = extra_intervals(labels, bad, groups, 100, 0)["above"]
    assert 0 < low < 0.5 < high < 1
    step = difference("above", [Paired(groups, groups, labels, good, bad)], CLASSES)
    assert step.value == pytest.approx(0.5)
    # The jackknife of a mean of six zeros and ones: sqrt(p (1 - p) / (n - 1)).
    assert step.error == pytest.approx((0.25 / 5) ** 0.5)
    (tmp_path / "margins.toml").write_text("[quality]\nabove = 0.02\n")
    assert load_margins(tmp_path / "margins.toml").quality == {"above": 0.02}
    assert str(parse_objectives(["above:max"], CLASSES, "centralized")[0]) == "above:max"


def test_no_second_list_of_columns() -> None:
    """Three column names in a row, outside of what computes them, are a second list."""
    # What computes metrics names them; the jackknife says which count images alike.
    computing = {
        *(f"bench/measure/{name}.py" for name in ("quality", "clients", "statistics/jackknife")),
        # Both compute a few of them of answers that no cell stores, and name those; the command prints them.
        "federated/evaluation/answer.py",
        "bench/cli/federated/evaluate.py",
        "reports/tables/reference.py",
    }
    names = "|".join(sorted(COLUMNS.names(), key=len, reverse=True))
    several = re.compile(rf'[(\[{{]\s*(?:"(?:{names})",\s*){{2,}}"(?:{names})"')
    found = [
        str(path.relative_to(ROOT))
        for folder in ("bench", "models", "federated", "sweeps", "reports")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if several.search(path.read_text(encoding="utf-8"))
    ]
    # An analysis says which metrics its own answer resamples.
    assert [name for name in found if name not in computing and not name.startswith("bench/analyses/")] == []
