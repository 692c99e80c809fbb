"""What needs no image: the row that every leaderboard is read against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.core.identity import derive_seed
from bench.measure.quality import intervals, quality
from bench.measure.statistics.clusters import MOST_PARTS
from bench.store.cells import StoredCell
from bench.store.predictions import Predictions
from reports.load.source import Source
from reports.tables.grid import Row, conditions

MAJORITY = "majority class"
NOTE = "Majority class: every test image is given the most frequent class of the training images."
_COLUMNS = ("accuracy", "balanced_accuracy", "f1", "mcc", "roc_auc")
_WITH_INTERVAL = ("accuracy", "balanced_accuracy", "f1")


def reference_rows(source: Source, rows: Sequence[Row]) -> list[Row]:
    """A row a condition: what the most frequent training class gives on the same test images.

    Conditions whose cells were stored before they knew that class, or whose predictions are lost, have none.

    Args:
        source: the run.
        rows: of its models.
    """
    found = []
    for condition, members in conditions(rows).items():
        cells: dict[tuple[str, int], StoredCell] = {}
        for cell in (cell for row in members for cell in row.done):
            cells.setdefault((cell.spec["split"], cell.spec["seed"]), cell)
        answered = [_answered(source, cell) for cell in cells.values()]
        known = tuple(cell for cell in answered if cell is not None)
        if known:
            found.append(Row(MAJORITY, condition, known))
    return found


def _answered(source: Source, cell: StoredCell) -> StoredCell | None:
    """The cell as it would stand if its model always said the majority class."""
    result = cell.result or {}
    given, majority = source.predictions(cell), result["data"].get("majority")
    if given is None or majority not in given.classes:
        return None
    changed = {"cost": {}, "timing": {}, "seconds": 0.0, "notes": []}
    return replace(
        cell, spec={**cell.spec, "model": MAJORITY}, result={**result, **changed, **_measured(cell, given, majority)}
    )


def _measured(cell: StoredCell, given: Predictions, majority: str) -> dict[str, dict[str, object]]:
    shares = np.zeros(given.probabilities.shape)
    shares[:, given.classes.index(majority)] = 1.0
    seed = derive_seed("bootstrap", cell.spec["dataset"], cell.spec["split"], cell.spec["seed"])
    values = quality(given.labels, shares, given.classes)
    bounds = intervals(given.labels, shares, given.groups, given.classes, MOST_PARTS, seed, _WITH_INTERVAL)
    return {
        "metrics": {name: values[name] for name in _COLUMNS},
        "intervals": {name: list(bounds[name]) if name in bounds else [None, None] for name in _COLUMNS},
    }
