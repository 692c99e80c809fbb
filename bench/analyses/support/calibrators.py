"""Calibrators fitted on one part's predictions, applied to another's: temperature scaling, isotonic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analyses.registry import Estimate
from bench.analyses.support.intervals import single_group
from bench.measure.statistics.clusters import clusters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Stored as float32: a probability of 0 has lost its logit, which lies below the smallest normal number.
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST_INVERSE = 2.0**20


@dataclass(frozen=True)
class Temperature:
    """Probabilities to the power 1 / T, scaled to sum to 1 again (Guo et al. 2017).

    Attributes:
        value: T; above 1 the model was too sure.
    """

    value: float

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrated probabilities [N, k]; the arg-max class stays the same."""
        return _softmax(_logits(probabilities) / self.value)


@dataclass(frozen=True)
class Isotonic:
    """A rising step-wise linear map a class, one against the rest, scaled to sum to 1 (Zadrozny and Elkan 2002).

    Attributes:
        knots: (probability, calibrated) a class, both rising; with two classes the second's alone.
    """

    knots: tuple[tuple[Floats, Floats], ...]

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrated probabilities [N, k]; a row whose classes all become 0 is spread evenly."""
        if len(self.knots) == 1:
            second = np.interp(probabilities[:, 1], *self.knots[0])
            return np.stack([1 - second, second], axis=1)
        columns = [np.interp(column, *knots) for column, knots in zip(probabilities.T, self.knots, strict=True)]
        mapped = np.stack(columns, axis=1)
        totals = mapped.sum(axis=1, keepdims=True)
        even = np.full(mapped.shape, 1 / mapped.shape[1])
        spread: Floats = np.divide(mapped, totals, out=even, where=totals > 0)
        return spread


def fit_temperature(labels: Ints, probabilities: Floats) -> Temperature | None:
    """The temperature of the least log loss.

    Args:
        labels: [N] class numbers, N > 0.
        probabilities: [N, k] of a softmax; its logits are their logarithms up to a constant.

    Returns:
        None where no finite temperature is best: every image is right, or a uniform guess would do better.
    """
    from scipy.optimize import brentq

    logits = _logits(probabilities)

    def slope(inverse: float) -> float:
        return float(_surplus(labels, logits, inverse).mean())

    highest = 1.0
    while slope(highest) <= 0 and highest < _LARGEST_INVERSE:
        highest *= 2
    if slope(0.0) >= 0 or slope(highest) <= 0:
        return None
    return Temperature(1 / float(brentq(slope, 0.0, highest, xtol=1e-12, rtol=1e-12)))


def temperature_estimate(fitted: Temperature, labels: Ints, probabilities: Floats, groups: ArrayLike) -> Estimate:
    """A fitted temperature with its interval: a sandwich error of log T over the groups [N] that it was fitted on.

    Args:
        fitted: the temperature.
        labels: class numbers [N] that it was fitted on.
        probabilities: of the same images [N, k].
        groups: the patient or lesion of each [N].
    """
    logits, inverse = _logits(probabilities), 1 / fitted.value
    codes = clusters(groups)[0]
    count = int(codes.max()) + 1
    if count < 2 or single_group(groups):
        return Estimate(fitted.value)
    shares = _softmax(logits * inverse)
    curvature = ((shares * logits**2).sum(axis=1) - (shares * logits).sum(axis=1) ** 2).sum()
    sums = np.bincount(codes, weights=_surplus(labels, logits, inverse))
    error = math.sqrt(float((sums**2).sum()) * count / (count - 1)) / float(curvature) / inverse
    reach = math.exp(1.959963984540054 * error)
    return Estimate(fitted.value, fitted.value / reach, fitted.value * reach)


def fit_isotonic(labels: Ints, probabilities: Floats) -> Isotonic | None:
    """Isotonic regression of each class against the rest.

    Args:
        labels: [N] class numbers.
        probabilities: [N, k].

    Returns:
        None where a class has no image, or all of them.
    """
    from sklearn.isotonic import IsotonicRegression

    classes = range(probabilities.shape[1])
    if any(not 0 < (labels == index).sum() < labels.size for index in classes):
        return None
    knots = []
    for index in [1] if len(classes) == 2 else classes:
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(probabilities[:, index], labels == index)
        knots.append((np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64)))
    return Isotonic(tuple(knots))


def _logits(probabilities: Floats) -> Floats:
    values: Floats = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))
    return values


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _surplus(labels: Ints, logits: Floats, inverse: float) -> Floats:
    """The derivative [N] of each image's log loss by the inverse temperature: expected minus true logit."""
    expected = (_softmax(logits * inverse) * logits).sum(axis=1)
    surplus: Floats = expected - logits[np.arange(labels.size), labels]
    return surplus
