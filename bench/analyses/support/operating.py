"""Operating points of one class against the rest, and what their answers are worth at a prevalence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analyses.registry import Estimate
from bench.analyses.support.intervals import proportion

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Two bounds that each hold at the root of 95 % hold together at 95 %, as cases and the rest share no image.
_JOINT_LEVEL = math.sqrt(0.95)


@dataclass(frozen=True)
class Rates:
    """Sensitivity and specificity of calls, and the predictive values at a prevalence."""

    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate


def threshold_for_specificity(positive: Bools, scores: Floats, target: float) -> float | None:
    """The lowest threshold whose calls (score at or above it) leave a share of `target` or more of the rest alone.

    Args:
        positive: who has the class [N].
        scores: its probability [N].
        target: between 0 and 1.

    Returns:
        None where the class or the rest has no image.
    """
    if positive.all() or not positive.any():
        return None
    rest = scores[~positive]
    kept = [value for value in _candidates(scores) if (rest < value).mean() >= target]
    return float(min(kept))


def threshold_for_sensitivity(positive: Bools, scores: Floats, target: float) -> float | None:
    """The highest threshold whose calls (score at or above it) find a share of `target` or more of the class.

    Args:
        positive: whether each image is of the class [N].
        scores: of the class [N].
        target: the sensitivity asked for, 0 to 1.

    Returns:
        None where the class or the rest has no image.
    """
    if positive.all() or not positive.any():
        return None
    cases = scores[positive]
    kept = [value for value in _candidates(scores) if (cases >= value).mean() >= target]
    return float(max(kept))


def _candidates(scores: Floats) -> Floats:
    """Every threshold that calls other images than its neighbours, the one that calls nobody included."""
    known = np.unique(scores)
    return np.append(known, np.nextafter(known[-1], np.inf))


def rates(positive: Bools, called: Bools, groups: NDArray[np.str_], prevalence: float) -> Rates:
    """The rates of calls [N], with exact intervals for a threshold taken as given.

    Predictive values follow from both rates by Bayes' rule at the stated prevalence; their intervals hold whatever the
    two rates are inside their joint 95 % box, so they are on the safe side.

    Args:
        positive: whether each image is of the class [N].
        called: whether it was called so [N].
        groups: the patient or lesion of each image [N].
        prevalence: of the class where the model would be used, 0 to 1.
    """
    cases, rest = (positive, called), (~positive, ~called)
    (hit, hit_box), (left, left_box) = (_share(mask, hits, groups) for mask, hits in (cases, rest))
    return Rates(hit, left, _ppv(hit, left, hit_box, left_box, prevalence),
                 _ppv(left, hit, left_box, hit_box, 1 - prevalence))  # fmt: skip


def _share(mask: Bools, hits: Bools, groups: NDArray[np.str_]) -> tuple[Estimate, Estimate]:
    return proportion(hits[mask], groups[mask]), proportion(hits[mask], groups[mask], _JOINT_LEVEL)


def _ppv(hit: Estimate, left: Estimate, hit_box: Estimate, left_box: Estimate, prevalence: float) -> Estimate:
    """The predictive value grows with both rates: its bounds are at the corners of their box."""
    value = predictive_value(hit.value, left.value, prevalence)
    if value is None:
        return Estimate(None)
    return Estimate(
        value,
        predictive_value(hit_box.low, left_box.low, prevalence),
        predictive_value(hit_box.high, left_box.high, prevalence),
    )


def predictive_value(sensitivity: float | None, specificity: float | None, prevalence: float) -> float | None:
    """The share of calls that are right, by Bayes' rule; None where a rate is unknown or nobody is called.

    Args:
        sensitivity, specificity: 0 to 1.
        prevalence: of the class, 0 to 1.
    """
    if sensitivity is None or specificity is None:
        return None
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return right / (right + wrong) if right + wrong > 0 else None
