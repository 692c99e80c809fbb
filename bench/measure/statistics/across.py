"""Statistics over several datasets: Friedman, Nemenyi, Wilcoxon (Demšar 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Friedman:
    """Models ranked on every dataset; rank 1 is best, ties share.

    Attributes:
        ranks: mean rank a model.
        critical_difference: Nemenyi's, at 5 %: mean ranks closer than this do not differ significantly.
        cliques: runs of models, best first, without a significant difference.
    """

    models: tuple[str, ...]
    datasets: int
    ranks: tuple[float, ...]
    statistic: float
    p: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]


def friedman(models: Sequence[str], table: ArrayLike) -> Friedman:
    """Friedman's test with Nemenyi's critical difference.

    Args:
        table: [datasets, models], higher is better, no gaps.

    Raises:
        ValueError: fewer than 3 models or 2 datasets.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    values = np.asarray(table, dtype=np.float64)
    count, many = values.shape
    if many < 3 or count < 2:
        raise ValueError(f"Friedman's test needs 3 models and 2 datasets or more, got {many} and {count}")
    ranks = np.stack([rankdata(-row) for row in values]).mean(axis=0)
    tied = bool(np.ptp(values, axis=1).max() == 0)
    statistic, p = (0.0, 1.0) if tied else friedmanchisquare(*values.T)
    quantile = studentized_range.ppf(0.95, many, np.inf) / math.sqrt(2)
    difference = float(quantile * math.sqrt(many * (many + 1) / (6 * count)))
    found = _cliques(models, ranks, difference)
    return Friedman(tuple(models), count, tuple(float(r) for r in ranks), float(statistic), float(p), difference, found)


def _cliques(models: Sequence[str], ranks: ArrayLike, difference: float) -> tuple[tuple[str, ...], ...]:
    """Maximal runs of neighbouring ranks that span less than the critical difference."""
    placed = sorted(zip(np.asarray(ranks).tolist(), models, strict=True))
    runs: list[tuple[int, int]] = []
    for start, (rank, _) in enumerate(placed):
        end = max(place for place, (other, _) in enumerate(placed) if other - rank < difference)
        if end > start and (not runs or end > runs[-1][1]):
            runs.append((start, end))
    return tuple(tuple(name for _, name in placed[start : end + 1]) for start, end in runs)


def wilcoxon(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over paired values; 1 when nothing differs, NaN below 2 pairs."""
    from scipy import stats

    steps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if steps.size < 2:
        return float("nan")
    if not np.any(steps):
        return 1.0
    return float(stats.wilcoxon(steps, zero_method="wilcox").pvalue)


def slower(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Mann-Whitney over two sets of times: (p of "first is not slower", ratio of medians first / second)."""
    from scipy.stats import mannwhitneyu

    times, base = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    p = float(mannwhitneyu(times, base, alternative="greater").pvalue)
    return p, float(np.median(times) / np.median(base))
