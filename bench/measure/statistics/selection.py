"""Which of several systems differ in accuracy, when it is the same images that say which one is the best.

A test of "the best against the others" is too sure of itself: the best was picked because its luck was good. Here every
pair of systems is in the family, so that any choice among them is covered. Whole groups change the sign of their
differences in all pairs at once, which keeps the correlation of the pairs, and the largest statistic of the pairs that
are not decided yet says how large one gets by chance (step-down max-T: Westfall and Young 1993; Romano and Wolf 2005).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLIPS = 4999
_CHUNK_ELEMENTS = 4_000_000


def every_pair(sums: Floats, flips: int = FLIPS, seed: int = 0) -> Floats:
    """p values of all pairs of systems, adjusted over all: [systems, systems], NaN on the diagonal.

    Args:
        sums: [parts, groups, systems]: correct predictions of each group in each test set (a seed's or a fold's);
            NaN throughout for a system that lacks the part. Two systems are compared on the parts that both have.
        flips: random sign patterns of the groups.
        seed: of the patterns.

    Returns:
        Two-sided p; NaN for pairs without a common part.
    """
    has = np.isnan(sums).sum(axis=1) == 0
    known = np.nan_to_num(sums)
    rows, columns = np.triu_indices(sums.shape[2], 1)
    shared = has[:, rows] & has[:, columns]
    tested = shared.any(axis=0)
    rows, columns = rows[tested], columns[tested]
    common: Floats = shared[:, tested].astype(np.float64)
    totals, scale = _observed(known, rows, columns, common)
    order = np.argsort(-np.abs(totals), kind="stable")
    rows, columns = rows[order], columns[order]
    reached = _reached(known, rows, columns, common[:, order], scale[order], np.abs(totals[order]), flips, seed)
    found = np.full((sums.shape[2], sums.shape[2]), np.nan)
    found[rows, columns] = found[columns, rows] = np.maximum.accumulate((reached + 1) / (flips + 1))
    return found


def _observed(sums: Floats, rows: Ints, columns: Ints, shared: Floats) -> tuple[Floats, Floats]:
    """Each pair's statistic, and what its sum of differences is divided by: the root of its groups' squares."""
    totals, squares = np.empty(rows.size), np.empty(rows.size)
    for pair, (one, two) in enumerate(zip(rows, columns, strict=True)):
        steps = shared[:, pair] @ (sums[:, :, one] - sums[:, :, two])
        totals[pair], squares[pair] = steps.sum(), steps @ steps
    scale = np.sqrt(np.where(squares > 0, squares, 1.0))
    return totals / scale, scale


def _reached(
    sums: Floats, rows: Ints, columns: Ints, shared: Floats, scale: Floats, limits: Floats, flips: int, seed: int
) -> Floats:
    """How often the largest statistic of a pair and those after it reaches its own [pairs], in falling order."""
    random, count = np.random.default_rng(seed), np.zeros(limits.size)
    chunk = max(1, _CHUNK_ELEMENTS // max(sums.shape[1], limits.size, 1))
    for start in range(0, flips, chunk):
        # int8 keeps 10,000 groups small while they are drawn.
        drawn = random.integers(0, 2, (min(chunk, flips - start), sums.shape[1]), dtype=np.int8)
        signs = 2.0 * drawn - 1
        flipped = np.zeros((signs.shape[0], limits.size))
        for part, common in zip(sums, shared, strict=True):
            moved = signs @ part
            flipped += common * (moved[:, rows] - moved[:, columns])
        largest = np.maximum.accumulate(np.abs(flipped / scale)[:, ::-1], axis=1)[:, ::-1]
        # Sums of whole numbers in another order may differ in the last bit.
        count += (largest >= limits - 1e-9).sum(axis=0)
    return count
