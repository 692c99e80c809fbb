"""Bring the stored predictions of two models together, image by image, over the seeds and folds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.measure.statistics.paired import Difference, Floats, drawn_groups
from bench.measure.statistics.pooled import Paired, difference
from bench.measure.statistics.selection import every_pair
from bench.store.cells import StoredCell
from bench.store.predictions import paired, same_images
from reports.load.source import Source
from reports.tables.grid import Row


@dataclass(frozen=True)
class Match:
    """The test sets that two rows share.

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
    """A row against another one: difference in accuracy, and its p value adjusted over all pairs of rows."""

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
            continue
        part = paired(one, two)
        if part is None:
            problems.append(f"test images differ (seed {cell.spec['seed']})")
        else:
            parts.append(part)
            places.append(cell_place(cell))
            classes = one.classes
    if not parts and not problems:
        problems.append("no seed that both have")
    return Match(tuple(parts), classes, "; ".join(dict.fromkeys(problems)), tuple(places))


def cell_place(cell: StoredCell) -> tuple[str, int]:
    """What two rows' cells are paired by: split (with its fold) and seed."""
    return cell.spec["split"], cell.spec["seed"]


def accuracy_contrast(found: Match) -> Difference | None:
    """Accuracy of the first minus the second; exact sign flips of groups. None where nothing is paired."""
    return difference("accuracy", found.parts, found.classes) if found.parts else None


def against(source: Source, best: Row, others: Sequence[Row]) -> list[Contrast]:
    """`best` minus each other row in accuracy; rows that cannot be paired are left out.

    The best one was picked by the same images, so the p values are adjusted over all pairs of rows, not only these.
    """
    pairs = [(row, accuracy_contrast(match(source, best, row))) for row in others if row is not best]
    known = [(row, found) for row, found in pairs if found is not None]
    if not known:
        return []
    adjusted = every_pair(_group_hits(source, [best, *(row for row, _ in known)]))[0, 1:]
    return [
        Contrast(row, found, max(float(p), found.p)) for (row, found), p in zip(known, adjusted, strict=True)
    ]  # fmt: skip


def _group_hits(source: Source, rows: Sequence[Row]) -> Floats:
    """Correctly predicted images [parts, groups, rows] on the test sets of the first row; NaN for a row without one."""
    by_place = [{cell_place(cell): source.predictions(cell) for cell in row.done} for row in rows]
    first = {place: found for place, found in by_place[0].items() if found is not None}
    groups = np.concatenate([found.groups for found in first.values()])
    ids = np.concatenate([found.ids for found in first.values()])
    codes = np.unique(drawn_groups(groups, ids)[0], return_inverse=True)[1]
    parts = np.split(codes, np.cumsum([found.ids.size for found in first.values()])[:-1])
    hits = np.full((len(first), int(codes.max()) + 1, len(rows)), np.nan)
    for number, ((place, own), mine) in enumerate(zip(first.items(), parts, strict=True)):
        for column, table in enumerate(by_place):
            other = table.get(place)
            if other is not None and same_images(own, other):
                right = (other.decisions == other.labels).astype(np.float64)
                hits[number, :, column] = np.bincount(mine, right, minlength=hits.shape[1])
    return hits
