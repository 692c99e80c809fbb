"""Means over images with intervals by patient or lesion, and the rows that images are drawn and taken in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analyses.registry import Estimate
from bench.analyses.support.intervals import ResampledSettings, estimates

Floats = NDArray[np.float64]


def mean(values: ArrayLike, groups: ArrayLike, settings: ResampledSettings) -> Estimate:
    """The mean of values [N] over those that are finite, with its interval by their groups [N]; None where none is."""
    given = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(given)
    if not kept.any():
        return Estimate(None)

    def statistics(weights: Floats) -> dict[str, Floats]:
        totals = weights.sum(axis=1)
        return {"mean": np.divide(weights @ given[kept], totals, out=np.full(len(totals), np.nan), where=totals > 0)}

    return estimates(statistics, np.asarray(groups)[kept], settings)["mean"]


def auroc(scores: ArrayLike, positives: ArrayLike, groups: ArrayLike, settings: ResampledSettings) -> Estimate:
    """The share of pairs of a positive and another in which the positive has the higher score, ties half.

    Args:
        scores, positives, groups: of N images.
    """
    given = np.asarray(scores, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    inside = np.asarray(positives)[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(given[order]) != 0])

    def statistics(weights: Floats) -> dict[str, Floats]:
        drawn = weights[:, order]
        positive = np.add.reduceat(drawn * inside, starts, axis=1)
        negative = np.add.reduceat(drawn * (1 - inside), starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        found = np.full(len(pairs), np.nan)
        return {"auc": np.divide((positive * below).sum(axis=1), pairs, out=found, where=pairs > 0)}

    return estimates(statistics, np.asarray(groups), settings)["auc"]


def plain(value: float) -> float | None:
    """A value as JSON can hold it: None for what is not finite."""
    return float(value) if np.isfinite(value) else None


def columns_of(prefix: str, found: Estimate) -> dict[str, float | None]:
    """A value and its bounds as three fields of a row."""
    return {prefix: found.value, f"{prefix}_low": found.low, f"{prefix}_high": found.high}


def picked(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` of `count` rows, drawn by a seed, rising."""
    rows = np.random.default_rng(seed).permutation(count)[:most]
    return np.sort(rows).astype(np.int64)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `count` rows, evenly from the first to the last: what is sorted is shown in all its kinds."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round()).astype(np.int64)


def batches(count: int, size: int) -> Sequence[slice]:
    """Slices of `size` rows that cover `count`."""
    return [slice(start, start + size) for start in range(0, count, size)]
