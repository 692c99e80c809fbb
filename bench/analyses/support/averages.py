"""Means over images with intervals that are clustered by patient or lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analyses.registry import Estimate
from bench.measure.statistics.clusters import clusters

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling:
    """One bootstrap for all figures of the same images, so that their ratios and differences are paired.

    Attributes:
        codes: the cluster of each image [N].
        counts: how often each cluster is drawn [B, clusters].
        unit: what is drawn: "group" or "image".
    """

    codes: NDArray[np.int64]
    counts: Floats
    unit: str

    @classmethod
    def of(cls, groups: ArrayLike, resamples: int, seed: int) -> Resampling:
        """By groups [N], by images where there are too few groups."""
        codes, unit = clusters(groups)
        count = int(codes.max()) + 1
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
        return cls(codes, drawn.astype(np.float64), unit)

    @property
    def weights(self) -> Floats:
        """How often each image is drawn [B, N]."""
        drawn: Floats = self.counts[:, self.codes]
        return drawn

    def mean(self, values: ArrayLike) -> Estimate:
        """The mean of values [N] over those that are finite; None where none is."""
        given = np.asarray(values, dtype=np.float64)
        kept = np.isfinite(given)
        if not kept.any():
            return Estimate(None)
        weights = self.weights[:, kept]
        totals = weights.sum(1)
        samples = (weights @ given[kept])[totals > 0] / totals[totals > 0]
        return estimate(float(given[kept].mean()), samples)

    def notes(self) -> list[str]:
        """What a reader must know of the intervals."""
        if self.unit == "group":
            return []
        return ["too few groups for a clustered bootstrap: the intervals take images for independent"]


def estimate(value: float, samples: ArrayLike) -> Estimate:
    """A figure with the 95 % percentile interval of its resamples [B]; what is not finite is None or left out."""
    drawn = np.asarray(samples, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not drawn.size:
        return Estimate(value if np.isfinite(value) else None)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def plain(value: float) -> float | None:
    """A figure as JSON can hold it: None for what is not finite."""
    return float(value) if np.isfinite(value) else None


def columns_of(prefix: str, found: Estimate) -> dict[str, float | None]:
    """A figure and its bounds as three fields of a row."""
    return {prefix: found.value, f"{prefix}_low": found.low, f"{prefix}_high": found.high}


def picked(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` of `count` rows, drawn by a seed, rising."""
    rows = np.random.default_rng(seed).permutation(count)[:most]
    return np.sort(rows).astype(np.int64)


def batches(count: int, size: int) -> Sequence[slice]:
    """Slices of `size` rows that cover `count`."""
    return [slice(start, start + size) for start in range(0, count, size)]
