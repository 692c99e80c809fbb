"""Intrinsic dimension of points by their neighbours' distances, and how far the points of several owners overlap.

Both estimators assume that the density is about constant within the neighbourhoods that they use. They fall below the
truth in high dimension with few points, and a duplicate, whose distance is 0, says nothing of a dimension: duplicates
are removed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import chi2

from bench.core.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dimension:
    """An estimate, with the 95 % interval that it would have if the points' ratios were independent."""

    value: float
    low: float
    high: float
    points: int


def distances(points: ArrayLike) -> Floats:
    """Euclidean distances [N, N] of points [N, d], 0 on the diagonal.

    By differences, not by the quicker |x|^2 + |y|^2 - 2 x y, which gives near-duplicates a distance of rounding errors.
    """
    rows = np.asarray(points, dtype=np.float64)
    found: Floats = cdist(rows, rows)
    return found


def distinct(between: Floats, tolerance: float = 1e-6) -> NDArray[np.int64]:
    """The rows that are left when of points closer than `tolerance` times the median distance only the first stays.

    Args:
        between: distances [N, N].
    """
    if len(between) < 2:
        return np.arange(len(between))
    limit = tolerance * float(np.median(between[np.triu_indices(len(between), 1)]))
    kept: list[int] = []
    for row, away in enumerate(between):
        if not kept or away[kept].min() > limit:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def two_nn(between: Floats) -> Dimension:
    """TwoNN (Facco et al. 2017): from the ratios mu of the second neighbour's distance to the first one's.

    log mu is exponential with rate d, so d = (N - 1) / sum log mu, which has no bias, and 2 d sum log mu is chi-squared
    with 2 N degrees of freedom, which gives the interval.

    Args:
        between: distances [N, N] of distinct points.

    Raises:
        UserError: for fewer than three points, or for duplicates among them.
    """
    near = _neighbours(between, 2)
    total = float(np.log(near[:, 1] / near[:, 0]).sum())
    return _estimate(total, len(near), per_point=1)


def levina_bickel(between: Floats, neighbours: int) -> Dimension:
    """The maximum-likelihood estimate of Levina and Bickel (2004) with MacKay and Ghahramani's correction (2005).

    The inverses of the points' own estimates are averaged, not the estimates: 1/d is the mean over points and over
    j < k of log(T_k / T_j), T_j the distance of the j-th of k neighbours.

    Args:
        between: distances [N, N] of distinct points.
        neighbours: k, two or more; its estimate at k = 2 is TwoNN's but for the factor (N - 1) / N.

    Raises:
        UserError: for too few points or neighbours, or for duplicates.
    """
    if neighbours < 2:
        raise UserError(f"a dimension needs two neighbours or more, not {neighbours=}")
    near = _neighbours(between, neighbours)
    total = float(np.log(near[:, -1:] / near[:, :-1]).sum())
    return _estimate(total, len(near), per_point=neighbours - 1, unbiased=False)


def _neighbours(between: Floats, count: int) -> Floats:
    """The distances of each point's nearest `count` others, rising: [N, count]."""
    if len(between) < count + 1:
        raise UserError(f"{len(between)} distinct points have no {count} neighbours each")
    near = np.partition(between + np.diag(np.full(len(between), np.inf)), count - 1, axis=1)[:, :count]
    near.sort(axis=1)
    if near[:, 0].min() <= 0:
        raise UserError("duplicates among the points; keep the distinct ones first")
    return near


def _estimate(total: float, points: int, per_point: int, unbiased: bool = True) -> Dimension:
    if total <= 0:
        raise UserError("all neighbours lie at the same distance, so that no dimension can be estimated")
    terms = points * per_point
    low, high = chi2.ppf([0.025, 0.975], 2 * terms) / (2 * total)
    return Dimension((terms - 1 if unbiased else terms) / total, float(low), float(high), points)


@dataclass(frozen=True)
class Overlap:
    """How the points of several owners lie among each other.

    Attributes:
        owners: the m names, sorted.
        mixing: [m, m]: the share of a's neighbours that belong to b, over the share that b has of all other points.
            1 everywhere where owners are mixed at random; off the diagonal 0 where they lie apart.
        across: the share of all neighbours that belong to another owner, over what chance would give.
    """

    owners: tuple[str, ...]
    mixing: Floats
    across: float


def overlap(between: Floats, owners: Sequence[str] | NDArray[np.str_], neighbours: int) -> Overlap:
    """Overlap of the owners (clients) of points by their nearest neighbours.

    Args:
        between: distances [N, N].
        owners: a name a point [N].
        neighbours: how many of each point's neighbours are looked at.

    Raises:
        UserError: for one owner alone, or for fewer points than neighbours.
    """
    names, codes = np.unique(np.asarray(owners), return_inverse=True)
    if len(names) < 2:
        raise UserError("an overlap needs the points of two owners or more")
    if not 1 <= neighbours < len(between):
        raise UserError(f"{len(between)} points have no {neighbours} neighbours each")
    away = between + np.diag(np.full(len(between), np.inf))
    near = codes[np.argpartition(away, neighbours - 1, axis=1)[:, :neighbours]]
    counts = np.stack([(near == owner).sum(1) for owner in range(len(names))], axis=1)
    found = np.stack([counts[codes == owner].mean(0) for owner in range(len(names))]) / neighbours
    sizes = np.bincount(codes).astype(np.float64)
    chance = (sizes[None, :] - np.eye(len(names))) / (len(between) - 1)
    apart = ~np.eye(len(names), dtype=np.bool_)
    weights = (sizes / sizes.sum())[:, None] * apart
    with np.errstate(invalid="ignore", divide="ignore"):
        mixing: Floats = found / chance
    return Overlap(tuple(map(str, names)), mixing, float((found * weights).sum() / (chance * weights).sum()))
