"""What is measured of an attribution: how much of it lies in the lesion, and whether it decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Answers = Callable[[NDArray[np.uint8]], Floats]
"""uint8 images [N, H, W, 3] -> probabilities [N, k]."""


def mass(attribution: Floats, inside: Bools) -> float:
    """The share of an attribution [H, W] that lies inside a mask [H, W]; NaN where there is no attribution."""
    total = float(attribution.sum())
    return float(attribution[inside].sum()) / total if total > 0 else float("nan")


# The pointing game as it was published: 15 pixels of tolerance on images whose shorter side is 224 (Zhang et al. 2018),
# after a Gaussian of 2 % of the side, as Fong, Patrick and Vedaldi (2019) play it with gradients.
TOLERANCE = 15 / 224
SMOOTHING = 0.02


def within_reach(inside: Bools) -> Bools:
    """The mask [H, W] and the pixels that the pointing game takes for hits of it: nearer than its tolerance."""
    from scipy.ndimage import distance_transform_edt

    if not inside.any():
        return inside
    near: Bools = distance_transform_edt(~inside) <= TOLERANCE * min(inside.shape)
    return near


def smoothed(attribution: Floats) -> Floats:
    """What the pointing game looks for the highest pixel of."""
    from scipy.ndimage import gaussian_filter

    found: Floats = gaussian_filter(attribution, SMOOTHING * max(attribution.shape), mode="nearest")
    return found


def pointing(attribution: Floats, inside: Bools) -> float:
    """The pointing game: whether the highest pixel of an attribution [H, W] lies within reach of a mask [H, W].

    Returns:
        1 or 0; the share of hits among several highest pixels; NaN where there is no attribution.
    """
    if not attribution.max() > 0:
        return float("nan")
    found = smoothed(attribution)
    return float(within_reach(inside)[found == found.max()].mean())


def centre_prior(size: int) -> Floats:
    """What somebody would point at who never looks: a Gaussian in the middle, a quarter of the side wide."""
    away = (np.arange(size) - (size - 1) / 2) / (size / 4)
    found: Floats = np.exp(-(away[:, None] ** 2 + away[None] ** 2) / 2)
    return found


def removal_curves(
    image: NDArray[np.uint8], attribution: Floats, answers: Answers, number: int, steps: int
) -> tuple[float, float]:
    """Deletion and insertion (Petsiuk et al. 2018): the class' mean probability over both curves.

    The pixels of highest attribution are taken away first, or put first onto an image of the mean colour, in `steps`
    equal steps, by the trapezoid rule. Attribution that decides deletes fast and inserts fast.

    Args:
        image: [H, W, 3]; attribution: [H, W].
        answers: the model.
        number: of the class.

    Returns:
        The deletion's and the insertion's area.
    """
    order = np.argsort(-attribution, axis=None, kind="stable")
    plain = np.broadcast_to(image.mean((0, 1)).round().astype(np.uint8), image.shape)
    ends = np.linspace(0, order.size, steps + 1).round().astype(np.int64)
    deleted, inserted = [], []
    for end in ends:
        first = np.zeros(order.size, dtype=np.bool_)
        first[order[:end]] = True
        chosen = first.reshape(attribution.shape)[..., None]
        deleted.append(np.where(chosen, plain, image))
        inserted.append(np.where(chosen, image, plain))
    found = answers(np.stack(deleted + inserted))[:, number]
    return _area(found[: steps + 1]), _area(found[steps + 1 :])


def _area(values: Floats) -> float:
    return float((values[1:] + values[:-1]).mean() / 2)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's correlation of two attributions [H, W]; NaN where one is constant."""
    from scipy.stats import rankdata

    left, right = (rankdata(each.ravel()) for each in (first, second))
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])
