"""The metrics of columns that plugins add: functions of labels and probabilities, with the same clustered interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure.columns import computed
from bench.measure.statistics.clusters import FEWEST_GROUPS, clusters, parts
from bench.measure.statistics.jackknife import bounds, error

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating[Any]]


def extra_quality(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Every added column's value."""
    return {one.name: one.compute(labels, probabilities) for one in computed() if one.compute is not None}


def extra_left_out(
    labels: Labels, probabilities: Probabilities, codes: NDArray[np.int64], names: Sequence[str] = ()
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Every added column of all images, and without each part [P], numbered [N] without gaps.

    Args:
        labels: int64 [N].
        probabilities: float64 [N, k].
        codes: the number of each image's part, 0 ... P - 1 [N].
        names: the columns that are wanted; all of them when empty.
    """
    wanted = [one for one in computed() if one.compute is not None and (not names or one.name in names)]
    kept = [codes != part for part in range(int(codes.max()) + 1)] if wanted else []
    return {
        one.name: (
            one.compute(labels, probabilities),
            np.array([one.compute(labels[rows], probabilities[rows]) for rows in kept]),
        )
        for one in wanted
        if one.compute is not None
    }


def extra_intervals(
    labels: Labels, probabilities: Probabilities, groups: NDArray[np.str_], most_parts: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Every added column's 95 % interval, by the same jackknife over groups as the others.

    Args:
        labels: int64 [N].
        probabilities: float64 [N, k].
        groups: the patient or lesion of each image [N].
        most_parts: into how many parts the groups are dealt at most, each left out once.
        seed: by which they are dealt.

    Returns:
        (lower, upper) by name; NaN where there are too few images.
    """
    if len(labels) < FEWEST_GROUPS:
        return dict.fromkeys((one.name for one in computed()), (math.nan, math.nan))
    codes = parts(clusters(groups)[0], most_parts, seed)
    weights = np.bincount(codes) / codes.size
    return {
        name: bounds(name, value, error(value, without, weights), weights)
        for name, (value, without) in extra_left_out(labels, probabilities, codes).items()
    }
