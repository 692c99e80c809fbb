"""Quality columns that others add: a function of labels and probabilities, with the same clustered interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.registry import Registry
from bench.measure.statistics.clusters import FEWEST_GROUPS, clusters, parts
from bench.measure.statistics.jackknife import bounds, error

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Metric:
    """A column.

    Attributes:
        compute: (labels [N], probabilities [N, k]) -> a number; NaN where it is not defined.
    """

    name: str
    summary: str
    compute: Callable[[Labels, Probabilities], float]


METRICS: Registry[Metric] = Registry("metric", "bench.metrics", listing="CONTRIBUTING.md")


def add_metric(name: str, summary: str, compute: Callable[[Labels, Probabilities], float]) -> None:
    """Register a column; results that were stored earlier do not get it.

    Args:
        name: the column's, in lower case with underscores.
        summary: one line for tables and listings.
        compute: of labels, int64 [N], and probabilities, float64 [N, k].

    Raises:
        ValueError: the name is taken.
    """
    METRICS.register(name, Metric(name, summary, compute))


def extra_quality(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Every added column's figure."""
    return {name: METRICS.get(name).compute(labels, probabilities) for name in METRICS.names()}


def extra_intervals(
    labels: Labels, probabilities: Probabilities, groups: NDArray[np.str_], most_parts: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Every added column's 95 % interval, by the same jackknife over groups as the others; its bounds are not known.

    Args:
        labels: int64 [N].
        probabilities: float64 [N, k].
        groups: the patient or lesion of each image [N].
        most_parts: into how many parts the groups are dealt at most, each left out once.
        seed: by which they are dealt.

    Returns:
        (lower, upper) by name; NaN where there are too few images.
    """
    names = METRICS.names()
    if not names:
        return {}
    if len(labels) < FEWEST_GROUPS:
        return dict.fromkeys(names, (math.nan, math.nan))
    codes = parts(clusters(groups)[0], most_parts, seed)
    kept = [codes != part for part in range(int(codes.max()) + 1)]
    left = [extra_quality(labels[rows], probabilities[rows]) for rows in kept]
    weights = np.bincount(codes) / codes.size
    found = {}
    for name, value in extra_quality(labels, probabilities).items():
        without = np.array([values[name] for values in left])
        found[name] = bounds(name, value, error(value, without, weights), weights)
    return found
