"""Random-effects summary of one figure over independent studies (sites), as a meta-analysis pools hospitals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.measure.statistics.student import student_quantile

Floats = NDArray[np.float64]
Method = Literal["paule-mandel", "dersimonian-laird"]
FEWEST_STUDIES = 2
FEWEST_PREDICTED = 3


@dataclass(frozen=True)
class Summary:
    """What studies say together.

    Attributes:
        value: the mean of the studies' true effects; error: its standard error.
        low, high: 95 % interval of it (Hartung and Knapp 2001, not shorter than by the error alone).
        tau2: variance of the true effects; i2: share of the studies' spread that is theirs and not chance, 0 to 1.
        q: Cochran's Q; p: of no difference between the studies.
        predicted: where the true effect of a further study is expected (95 %); NaNs for two studies.
    """

    value: float
    error: float
    low: float
    high: float
    tau2: float
    i2: float
    q: float
    p: float
    predicted: tuple[float, float]
    studies: int


def random_effects(effects: ArrayLike, variances: ArrayLike, method: Method = "paule-mandel") -> Summary:
    """Pool effects [K] with their variances [K].

    tau^2 by Paule and Mandel (1982; Q at tau^2 is K - 1) or DerSimonian and Laird (1986, the moment estimator); I^2 is
    Higgins and Thompson's (2002), from Q. The interval is Student's t with K - 1 degrees of freedom on the error of
    Hartung and Knapp; where the studies happen to agree better than chance that error is smaller than the plain one,
    which then stands in its place.

    Args:
        effects: [K], on a scale where they are nearly normal.
        variances: [K], of each study's error.
        method: how tau^2 is estimated.

    Raises:
        ValueError: fewer than two studies, or a variance that is no positive number.
    """
    found, spread = np.asarray(effects, np.float64), np.asarray(variances, np.float64)
    if found.size < FEWEST_STUDIES or not (np.isfinite(spread) & (spread > 0)).all():
        raise ValueError(f"a summary needs two studies and positive variances, not {found.size} and {spread}")
    free = found.size - 1
    q = _q(found, spread, 0.0)
    tau2 = _paule_mandel(found, spread) if method == "paule-mandel" else _dersimonian_laird(found, spread)
    weights = 1 / (spread + tau2)
    value, plain = float(weights @ found / weights.sum()), float(1 / math.sqrt(weights.sum()))
    widened = plain * math.sqrt(max(1.0, _q(found, spread, tau2) / free))
    reach = student_quantile(0.975, free) * widened
    return Summary(
        value, plain, value - reach, value + reach, tau2, max(0.0, (q - free) / q) if q > 0 else 0.0, q,
        _chance(q, free), _predicted(value, plain, tau2, found.size), found.size,
    )  # fmt: skip


def _predicted(value: float, error: float, tau2: float, studies: int) -> tuple[float, float]:
    """Higgins, Thompson and Spiegelhalter (2009): Student's t with K - 2 degrees of freedom."""
    if studies < FEWEST_PREDICTED:
        return math.nan, math.nan
    reach = student_quantile(0.975, studies - 2) * math.sqrt(tau2 + error**2)
    return value - reach, value + reach


def _chance(q: float, free: int) -> float:
    from scipy.special import chdtrc

    return float(chdtrc(free, q))


def _q(found: Floats, spread: Floats, tau2: float) -> float:
    """The weighted sum of squares around the weighted mean."""
    weights = 1 / (spread + tau2)
    mean = weights @ found / weights.sum()
    return float(weights @ (found - mean) ** 2)


def _dersimonian_laird(found: Floats, spread: Floats) -> float:
    weights = 1 / spread
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    return max(0.0, (_q(found, spread, 0.0) - (found.size - 1)) / float(scale))


def _paule_mandel(found: Floats, spread: Floats) -> float:
    from scipy.optimize import brentq

    free = found.size - 1
    if _q(found, spread, 0.0) <= free:
        return 0.0
    # Q falls with tau^2, and lies below the unweighted sum of squares over it.
    highest = float(((found - found.mean()) ** 2).sum())
    return float(brentq(lambda tau2: _q(found, spread, tau2) - free, 0.0, highest, xtol=1e-14, rtol=1e-13))
