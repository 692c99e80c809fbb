"""Differences of two systems pooled over seeds and folds: paired by image, patients whole over all parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.measure.clusters import clusters, draws
from bench.measure.quality import quality, resampled_by
from bench.measure.statistics import (
    Difference,
    accuracy_difference,
    auc,
    drawn_groups,
    group_sums,
    normal_difference,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Paired:
    """One test part as two systems predict it: ids, groups and labels [N], probabilities of A and B [N, k]."""

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    labels: Ints
    first: Floats
    second: Floats


def difference(
    name: str, parts: Sequence[Paired], classes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> Difference:
    """A minus B of a quality column, averaged over the parts, with a 95 % interval and a two-sided p value.

    accuracy: clustered bootstrap interval, p by exact sign flips of groups. balanced_accuracy: clustered bootstrap.
    roc_auc: DeLong, clustered. Any other column: clustered bootstrap of the whole column (slower).

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("a difference needs at least one test part")
    codes, _ = _codes(parts)
    if name == "roc_auc":
        return _auc_difference(parts, codes)
    if name not in ("accuracy", "balanced_accuracy"):
        return paired_bootstrap(parts, classes, resamples, seed)[name]
    counts = draws(codes, resamples, seed)
    if name == "accuracy":
        return _accuracy(parts, codes, counts)
    return _balanced(parts, codes, counts, len(classes))


def _codes(parts: Sequence[Paired]) -> tuple[Ints, Ints]:
    """A cluster number an image over all parts, and where each part after the first begins."""
    groups = np.concatenate([part.groups for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    codes = np.unique(drawn_groups(groups, ids), return_inverse=True)[1].astype(np.int64)
    return codes, np.cumsum([part.labels.size for part in parts])[:-1].astype(np.int64)


def _right(part: Paired) -> tuple[Floats, Floats]:
    hits = [(shares.argmax(axis=1) == part.labels).astype(np.float64) for shares in (part.first, part.second)]
    return hits[0], hits[1]


def _accuracy(parts: Sequence[Paired], codes: Ints, counts: Floats) -> Difference:
    hits = [_right(part) for part in parts]
    first, second = (np.concatenate([pair[index] for pair in hits]) for index in (0, 1))
    steps = first - second
    exact = accuracy_difference(first, second, codes.astype(str))
    sizes = np.bincount(codes).astype(np.float64)
    drawn = counts @ group_sums(steps, codes) / np.maximum(counts @ sizes, 1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(
        float(steps.mean()), float(low), float(high), exact.error, exact.p, "clustered bootstrap, exact sign flips"
    )


def _balanced(parts: Sequence[Paired], codes: Ints, counts: Floats, classes: int) -> Difference:
    labels = np.concatenate([part.labels for part in parts])
    hits = [_right(part) for part in parts]
    steps = np.concatenate([first - second for first, second in hits])
    gains, sizes = [], []
    for index in range(classes):
        mine = (labels == index).astype(np.float64)
        gains.append(group_sums(steps * mine, codes))
        sizes.append(group_sums(mine, codes))
    gain, size = np.stack(gains, axis=1), np.stack(sizes, axis=1)
    present = size.sum(axis=0) > 0
    value = float((gain.sum(axis=0)[present] / size.sum(axis=0)[present]).mean())
    drawn_size = counts @ size[:, present]
    shares = np.divide(counts @ gain[:, present], drawn_size, out=np.zeros(drawn_size.shape), where=drawn_size > 0)
    drawn = shares.sum(axis=1) / np.maximum((drawn_size > 0).sum(axis=1), 1)
    return bootstrap_difference(value, drawn)


def _auc_difference(parts: Sequence[Paired], codes: Ints) -> Difference:
    values, shares = [], []
    for part in parts:
        (first, first_shares), (second, second_shares) = auc(part.labels, part.first), auc(part.labels, part.second)
        values.append(first - second)
        shares.append((first_shares - second_shares) / len(parts))
    error = float(np.sqrt((group_sums(np.concatenate(shares), codes) ** 2).sum()))
    return normal_difference(float(np.mean(values)), error, "DeLong, clustered")


def paired_bootstrap(
    parts: Sequence[Paired], classes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """A minus B of every quality column, both measured on the same drawn groups, averaged over the parts."""
    codes, offsets = _codes(parts)
    counts = draws(codes, resamples, seed)
    at: dict[str, list[float]] = {}
    drawn: dict[str, Floats] = {}
    for part, mine in zip(parts, np.split(codes, offsets), strict=True):
        values = [quality(part.labels, shares, classes) for shares in (part.first, part.second)]
        pair = [resampled_by(part.labels, shares, classes, mine, counts) for shares in (part.first, part.second)]
        for name in values[0]:
            at.setdefault(name, []).append(values[0][name] - values[1][name])
            drawn[name] = drawn.get(name, np.zeros(resamples)) + (pair[0][name] - pair[1][name]) / len(parts)
    return {name: bootstrap_difference(float(np.mean(at[name])), drawn[name]) for name in at}


def bootstrap_difference(value: float, drawn: Floats) -> Difference:
    """A difference from its resamples [B]; p is twice the smaller share on one side of zero, counting itself."""
    kept = drawn[np.isfinite(drawn)]
    if kept.size < 2 or not math.isfinite(value):
        return Difference(value, math.nan, math.nan, math.nan, math.nan, "clustered bootstrap")
    low, high = np.percentile(kept, [2.5, 97.5])
    tail = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (kept.size + 1))
    return Difference(value, float(low), float(high), float(kept.std(ddof=1)), p, "clustered bootstrap")


def mean_difference(found: Sequence[Difference]) -> Difference:
    """The plain mean over independent datasets, each counting alike."""
    error = math.sqrt(sum(entry.error**2 for entry in found)) / len(found)
    return normal_difference(float(np.mean([entry.value for entry in found])), error, "mean over datasets")


def clusters_of(parts: Sequence[Paired]) -> tuple[int, str]:
    """How many independent units the parts hold, and what they are: "group" or "image"."""
    groups = np.concatenate([part.groups for part in parts])
    codes, _ = _codes(parts)
    return int(codes.max()) + 1, clusters(groups)[1]
