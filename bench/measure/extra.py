"""Quality columns that others add: a function of labels and probabilities, with the same clustered interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.registry import Registry
from bench.measure.clusters import clusters, draws

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
    """Register a column; results that were stored earlier do not get it. Raises ValueError when the name is taken."""
    METRICS.register(name, Metric(name, summary, compute))


def extra_quality(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Every added column's figure."""
    return {name: METRICS.get(name).compute(labels, probabilities) for name in METRICS.names()}


def extra_intervals(
    labels: Labels, probabilities: Probabilities, groups: NDArray[np.str_], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Every added column's 95 % interval, from resamples of whole groups."""
    names = METRICS.names()
    if not names:
        return {}
    codes, _ = clusters(groups)
    counts = draws(codes, resamples, seed)[:, codes].astype(np.int64)
    values: dict[str, list[float]] = {name: [] for name in names}
    for weights in counts:
        rows = np.repeat(np.arange(len(labels)), weights)
        for name, value in extra_quality(labels[rows], probabilities[rows]).items():
            values[name].append(value)
    return {name: _interval(np.array(found)) for name, found in values.items()}


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    if not kept.size:
        return float("nan"), float("nan")
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)
