"""Student's t by scipy's special functions: importing `scipy.stats` for it takes longer than drawing a report."""

from __future__ import annotations

import math


def student_quantile(share: float, free: float) -> float:
    """The value that `share` of a t distribution lies below.

    Args:
        free: degrees of freedom, above 0; infinity gives the normal distribution.
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri(share) if math.isinf(free) else stdtrit(free, share))


def student_tail(value: float, free: float) -> float:
    """The share of a t distribution that lies above a value."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(-value) if math.isinf(free) else stdtr(free, -value))
