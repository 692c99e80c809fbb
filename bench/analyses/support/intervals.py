"""The 95 % intervals of analyses: resampled by whole groups, or exact for a share of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from bench.analyses.registry import Estimate, Settings
from bench.measure.statistics.clusters import clusters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Statistics = Callable[[Floats], dict[str, Floats]]
"""Image weights [B, N] -> every metric under them [B], by name; NaN where one is not defined."""

# With fewer clusters a percentile bootstrap is far too narrow; a jackknife with Student's t is not.
FEWEST_FOR_BOOTSTRAP = 10
_CHUNK_ELEMENTS = 2_000_000


class ResampledSettings(Settings):
    """Settings of an analysis whose intervals come from a bootstrap.

    Attributes:
        resamples: how many draws of whole groups.
        seed: of the draws.
    """

    resamples: int = Field(1000, ge=100, le=100_000)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Resamples:
    """Metrics of a part and how they vary over it.

    Attributes:
        values: every metric on the part itself.
        samples: every metric on each resample.
        method: "bootstrap", "jackknife" (each resample leaves one cluster out), or "none": nothing to resample.
    """

    values: dict[str, float]
    samples: dict[str, Floats]
    method: Literal["bootstrap", "jackknife", "none"]

    def estimate(self, name: str) -> Estimate:
        """A metric with its percentile interval; without bounds where it does not vary or is rarely defined."""
        return self._estimate(name, lambda kept: tuple(np.percentile(kept, [2.5, 97.5])))

    def debiased(self, name: str, plugin: str) -> Estimate:
        """A metric whose resamples scatter around its plug-in twin: plug-in + value - percentiles, as Kumar does."""
        around = self.values[plugin] + self.values[name]
        return self._estimate(name, lambda kept: tuple(around - np.percentile(kept, [97.5, 2.5])))

    def _estimate(self, name: str, bounds: Callable[[Floats], tuple[float, ...]]) -> Estimate:
        value = self.values[name]
        if not math.isfinite(value):
            return Estimate(None)
        kept = self.samples[name][np.isfinite(self.samples[name])] if self.method != "none" else np.empty(0)
        # A metric that is the same on every resample looks certain and is not.
        if kept.size < 2 or kept.size < self.samples[name].size / 2 or np.ptp(kept) <= 1e-12:
            return Estimate(value)
        low, high = _jackknife_bounds(value, kept) if self.method == "jackknife" else bounds(kept)
        return Estimate(value, float(low), float(high))


def resample(statistics: Statistics, groups: ArrayLike, settings: ResampledSettings) -> Resamples:
    """Metrics of N > 0 images and of resamples of their groups.

    Args:
        statistics: what is measured under image weights.
        groups: [N] names; an empty name stands for itself.
        settings: how many draws, and their seed.

    Returns:
        A bootstrap of whole groups; below `FEWEST_FOR_BOOTSTRAP` clusters a jackknife; nothing for a single group.
    """
    names = np.asarray(groups).astype(str)
    values = {name: float(found[0]) for name, found in statistics(np.ones((1, names.size))).items()}
    codes = clusters(names)[0]
    count = int(codes.max()) + 1
    if count < 2 or single_group(names):
        return Resamples(values, {}, "none")
    if count < FEWEST_FOR_BOOTSTRAP:
        return Resamples(values, statistics((1 - np.eye(count))[:, codes]), "jackknife")
    drawn = np.random.default_rng(settings.seed).multinomial(count, np.full(count, 1 / count), settings.resamples)
    rows = max(1, _CHUNK_ELEMENTS // names.size)
    weights = (drawn[at : at + rows][:, codes].astype(np.float64) for at in range(0, len(drawn), rows))
    parts = [statistics(chunk) for chunk in weights]
    return Resamples(values, {name: np.concatenate([part[name] for part in parts]) for name in values}, "bootstrap")


def estimates(statistics: Statistics, groups: ArrayLike, settings: ResampledSettings) -> dict[str, Estimate]:
    """Every metric of N > 0 images with its 95 % interval by `resample`.

    Args:
        statistics: image weights [B, N] -> values [B] by name.
        groups: the patient or lesion of each image [N].
        settings: how many resamples, and their seed.
    """
    found = resample(statistics, groups, settings)
    return {name: found.estimate(name) for name in found.values}


def proportion(hits: ArrayLike, groups: ArrayLike, level: float = 0.95) -> Estimate:
    """A share of images with its exact interval, which stays honest at 0 and 1.

    Clopper and Pearson's (1934) where every image stands for itself; else Korn and Graubard's (1998): the same with
    the effective number of images, never more than there are. At a share of 0 or 1 a group counts as one image.

    Args:
        hits: whether each image counts [N]; no image gives None.
        groups: [N] names; all in one group gives no bounds.
        level: of the interval, between 0 and 1.
    """
    right, names = np.asarray(hits, dtype=np.float64), np.asarray(groups).astype(str)
    if right.size == 0:
        return Estimate(None)
    share = float(right.mean())
    if single_group(names):
        return Estimate(share)
    return Estimate(share, *_clopper_pearson(share, _effective(right, clusters(names)[0], level), 1 - level))


def single_group(groups: ArrayLike) -> bool:
    """Whether two images or more all carry one group's name."""
    names = np.asarray(groups).astype(str)
    return names.size > 1 and names[0] != "" and bool(np.all(names == names[0]))


def unit_notes(groups: ArrayLike) -> list[str]:
    """What a reader must know about the intervals of images of these groups [N], a sentence each."""
    names = np.asarray(groups).astype(str)
    if single_group(names):
        return [f"all {names.size} test images belong to the group {names[0]}: no interval can be given"]
    codes, unit = clusters(names)
    if unit == "image":
        return ["too few groups to draw: single images are drawn, and intervals may be too narrow"]
    if codes.max() + 1 < FEWEST_FOR_BOOTSTRAP:
        return [f"{codes.max() + 1} independent groups: intervals come from a jackknife over them"]
    return []


def _jackknife_bounds(value: float, left_out: Floats) -> tuple[float, float]:
    from scipy.stats import t

    count = left_out.size
    error = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    reach = float(t.ppf(0.975, count - 1)) * error
    return value - reach, value + reach


def _effective(hits: Floats, codes: Ints, level: float) -> float:
    """Korn and Graubard's effective sample size of N clustered images."""
    from scipy.stats import t

    size, count, share = hits.size, int(codes.max()) + 1, float(hits.mean())
    if count == size:
        return float(size)
    if share in (0.0, 1.0):
        return float(count)
    sums = np.bincount(codes, weights=hits - share)
    variance = float((sums**2).sum()) * count / (count - 1) / size**2
    tail = (1 - level) / 2
    narrowed = float(t.ppf(tail, size - 1) / t.ppf(tail, count - 1)) ** 2
    return min(float(size), narrowed * share * (1 - share) / max(variance, 1e-300))


def _clopper_pearson(share: float, size: float, outside: float) -> tuple[float, float]:
    from scipy.stats import beta

    hits = share * size
    low = float(beta.ppf(outside / 2, hits, size - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - outside / 2, hits + 1, size - hits)) if share < 1 else 1.0
    return low, high
