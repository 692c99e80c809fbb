"""Bring the stored predictions of two models together, image by image, over the seeds and folds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.measure.pooled import Paired
from bench.measure.statistics import Difference, accuracy_difference, drawn_groups, holm
from bench.store import StoredCell
from reports.cellfiles import Predictions
from reports.grid import Row
from reports.source import Source


@dataclass(frozen=True)
class Match:
    """The test parts that two rows share.

    Attributes:
        parts: one a common seed and fold.
        classes: the class names.
        problem: why there is nothing to compare, or which parts were left out; "" when all is well.
        places: split and seed of each part.
    """

    parts: tuple[Paired, ...]
    classes: tuple[str, ...]
    problem: str
    places: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Contrast:
    """A row against another one: difference in a figure, and its p value adjusted within the family."""

    row: Row
    difference: Difference
    adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p value is below 5 %."""
        return self.adjusted < 0.05


def match(source: Source, first: Row, second: Row) -> Match:
    """Pair two rows' cells by split and seed, and their predictions by image."""
    others = {cell_place(cell): cell for cell in second.done}
    parts: list[Paired] = []
    places: list[tuple[str, int]] = []
    classes: tuple[str, ...] = ()
    problems: list[str] = []
    for cell in first.done:
        twin = others.get(cell_place(cell))
        if twin is None:
            continue
        one, two = source.predictions(cell), source.predictions(twin)
        if one is None or two is None:
            problems.append("predictions cannot be read")
        elif not same_part(one, two):
            problems.append(f"test images differ (seed {cell.spec['seed']})")
        else:
            parts.append(Paired(one.ids, one.groups, one.labels, one.probabilities, two.probabilities))
            places.append(cell_place(cell))
            classes = one.classes
    if not parts and not problems:
        problems.append("no seed that both have")
    return Match(tuple(parts), classes, "; ".join(dict.fromkeys(problems)), tuple(places))


def cell_place(cell: StoredCell) -> tuple[str, int]:
    """What two rows' cells are paired by: split (with its fold) and seed."""
    return cell.spec["split"], cell.spec["seed"]


def same_part(one: Predictions, two: Predictions) -> bool:
    """Whether two predictions are of the same images with the same labels and classes."""
    return (
        one.classes == two.classes
        and one.ids.size == two.ids.size
        and bool(np.array_equal(one.ids, two.ids) and np.array_equal(one.labels, two.labels))
    )


def accuracy_contrast(found: Match) -> Difference | None:
    """Accuracy of the first minus the second; exact sign flips of groups, normal interval. Quick."""
    if not found.parts:
        return None
    groups = np.concatenate([part.groups for part in found.parts])
    ids = np.concatenate([part.ids for part in found.parts])
    right = [
        np.concatenate([getattr(part, side).argmax(axis=1) == part.labels for part in found.parts])
        for side in ("first", "second")
    ]
    return accuracy_difference(right[0], right[1], drawn_groups(groups, ids))


def against(source: Source, best: Row, others: Sequence[Row]) -> list[Contrast]:
    """`best` minus each other row in accuracy, Holm-adjusted over them; rows that cannot be paired are left out."""
    pairs = [(row, accuracy_contrast(match(source, best, row))) for row in others if row is not best]
    known = [(row, found) for row, found in pairs if found is not None]
    adjusted = holm([found.p for _, found in known])
    return [Contrast(row, found, p) for (row, found), p in zip(known, adjusted, strict=True)]
