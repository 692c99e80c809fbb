"""Standard errors and intervals from leaving out one part (group) at a time, right with few and unequal groups.

The delete-one-cluster jackknife holds with few clusters where the bootstrap of clusters does not (MacKinnon, Nielsen
and Webb 2023, "Fast and reliable jackknife and bootstrap methods for cluster-robust inference"). Its error is taken
with Student's t on a scale without bounds. The degrees of freedom are the effective number of groups minus one: groups
of unequal size count as fewer (Kish 1965).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.measure.columns import column
from bench.measure.statistics.student import student_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Every image counts alike in these; in the others every class does.
_BY_IMAGE = ("accuracy", "log_loss", "brier", "ece")


@dataclass(frozen=True)
class Weights:
    """How much each part [P] weighs: among all images, among the classes taken alike, and in each class [k, P]."""

    images: Floats
    macro: Floats
    classes: dict[str, Floats]

    @classmethod
    def of(cls, labels: Ints, codes: Ints, classes: tuple[str, ...]) -> Weights:
        """Count labels [N] by part [N]; parts are numbered without gaps.

        Args:
            labels: class numbers [N].
            codes: the part of each image [N].
            classes: k names.
        """
        count = int(codes.max()) + 1
        table = np.bincount(codes * len(classes) + labels, minlength=count * len(classes)).reshape(count, -1)
        shares = table / np.maximum(table.sum(axis=0), 1)
        macro = np.sqrt((shares**2).sum(axis=1))
        by_class = {f"recall_{name}": shares[:, index] for index, name in enumerate(classes)}
        return cls(table.sum(axis=1) / labels.size, macro, by_class)

    def of_column(self, name: str) -> Floats:
        """The weights behind a quality column."""
        return self.classes.get(name, self.images if name in _BY_IMAGE else self.macro)


def effective(weights: Floats) -> float:
    """The number of equally weighty parts that would weigh as unequally added up: (sum)^2 / sum of squares."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0


def freedom(weights: Floats) -> float:
    """Degrees of freedom behind an error from these parts; never below 1."""
    return max(1.0, effective(weights) - 1)


def error(value: float, without: Floats, weights: Floats) -> float:
    """The jackknife's standard error of a value.

    Args:
        value: of all images.
        without: the value without each part [P].
        weights: of the parts [P]; those that weigh nothing are no observation.

    Returns:
        NaN where fewer than two parts weigh anything, or the value is not defined without one of them.
    """
    steps = without[weights > 0] - value
    if steps.size < 2:
        return math.nan
    return math.sqrt(float((steps**2).sum()) * (steps.size - 1) / steps.size)


def bounds(name: str, value: float, spread: float, weights: Floats) -> tuple[float, float]:
    """The 95 % interval of a column: Student's t on the logit scale (shares, MCC), the logarithm (losses), or plain.

    At 0 and 1 of a share nothing varies; the bound is then that of as many independent trials as there are effective
    parts (Clopper and Pearson 1934). (NaN, NaN) where no error is known, or it is 0 elsewhere.

    Args:
        name: of the column, whose limits choose the scale.
        value: of all images.
        spread: its standard error.
        weights: the parts' sizes, from which the degrees of freedom follow.
    """
    low, high = column(name).limits
    if not math.isfinite(value) or not math.isfinite(spread):
        return math.nan, math.nan
    if math.isfinite(high) and value in (low, high):
        reach = (high - low) * (1 - 0.025 ** (1 / max(1.0, effective(weights))))
        return (low, low + reach) if value == low else (high - reach, high)
    if spread == 0:
        return math.nan, math.nan
    reach = student_quantile(0.975, freedom(weights)) * spread
    if not math.isfinite(low):
        return value - reach, value + reach
    if not math.isfinite(high):
        return _finite_exp(value, -reach / value), _finite_exp(value, reach / value)
    return _logit_bounds(value, reach, low, high)


def _finite_exp(value: float, exponent: float) -> float:
    """value * e^exponent, held below where it could not be written down."""
    return value * math.exp(min(exponent, 500.0))


def _logit_bounds(value: float, reach: float, low: float, high: float) -> tuple[float, float]:
    from scipy.special import expit, logit

    share, width = (value - low) / (high - low), high - low
    step = reach / width / (share * (1 - share))
    ends = expit(logit(share) + np.array([-step, step]))
    return low + width * float(ends[0]), low + width * float(ends[1])
