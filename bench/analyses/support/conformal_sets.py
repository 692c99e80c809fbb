"""Split conformal prediction sets: LAC and APS scores, thresholds for all classes together or each by itself."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def lac_scores(probabilities: Floats) -> Floats:
    """Least ambiguous sets (Sadinle, Lei and Wasserman 2019): 1 - probability, of every class [N, k]."""
    scores: Floats = 1 - probabilities
    return scores


def aps_scores(probabilities: Floats, shares: Floats) -> Floats:
    """Adaptive sets (Romano, Sesia and Candès 2020): the probability of likelier classes plus a share of its own.

    Args:
        probabilities: [N, k]; of equal ones the first class counts as likelier.
        shares: [N], uniform between 0 and 1, one an image; all 1 gives larger sets, without randomization.

    Returns:
        The score of every class [N, k].
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    above = np.cumsum(ranked, axis=1) - ranked
    scores = np.empty_like(ranked)
    np.put_along_axis(scores, order, above + shares[:, None] * ranked, axis=1)
    return scores


def conformal_quantile(scores: Floats, miss: float) -> float:
    """The threshold under which a new score stays with a chance of 1 - miss or more.

    Args:
        scores: [n] of calibration images.
        miss: the share that may be missed, between 0 and 1.

    Returns:
        The ceil((n + 1) (1 - miss))-th smallest score; infinite where n is too small for the promise.
    """
    # 10 * (1 - 0.1) is 9.000000000000002 in floating point or 8.99...: a hair must not move the rank.
    place = math.ceil(round((scores.size + 1) * (1 - miss), 9))
    return math.inf if place > scores.size else float(np.sort(scores)[place - 1])


def thresholds(labels: Ints, scores: Floats, miss: float, per_class: bool) -> Floats:
    """The threshold of every class [k] from calibration labels [n] and scores [n, k].

    Args:
        labels: class numbers [n].
        scores: of nonconformity [n, k].
        miss: the share of images whose set may lack the true class, 0 to 1.
        per_class: each class by itself (Mondrian), so that coverage is promised within each; else one for all.
    """
    own, count = scores[np.arange(labels.size), labels], scores.shape[1]
    if not per_class:
        return np.full(count, conformal_quantile(own, miss))
    return np.array([conformal_quantile(own[labels == index], miss) for index in range(count)])


def prediction_sets(scores: Floats, limits: Floats) -> Bools:
    """Which classes [N, k] are in each image's set."""
    inside: Bools = scores <= limits
    return inside
