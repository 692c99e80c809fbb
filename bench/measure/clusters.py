"""What counts as independent among test images, and the parts of it that a jackknife leaves out in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]

FEWEST_GROUPS = 2
# More parts cost time and bring nothing: Student's t with 199 degrees of freedom is the normal distribution.
MOST_PARTS = 200
TOO_NARROW = "images, too narrow"
METHODS = {
    "group": "jackknife over groups, Student's t",
    "unknown": "jackknife over images (no groups known), Student's t",
    "image": f"jackknife over {TOO_NARROW}, Student's t",
}

# Results that do not name their method: a bootstrap's percentiles, over images where groups were fewer than this.
_EARLIER_FEWEST = 10


def interval_method(result: Mapping[str, Any]) -> str:
    """How a stored result's intervals were taken, one of `METHODS`; those of earlier versions did not write it."""
    known = result.get("interval_method")
    if isinstance(known, str):
        return known
    groups = result["data"].get("groups_test")
    few = isinstance(groups, int) and groups < _EARLIER_FEWEST
    return f"percentile bootstrap of an earlier version over {TOO_NARROW if few else 'groups'}"


def clusters(groups: ArrayLike) -> tuple[Ints, str]:
    """What a jackknife leaves out, as a number an image [N], and its unit, a key of `METHODS`.

    "group": two groups or more. "unknown": no image has a group's name. "image": all images belong to one group (an
    author's fold standing in for patients, say), whose spread cannot be seen; single images are taken then, and every
    table that uses the interval calls it too narrow. An empty name means that the image has no known group and stands
    for itself.
    """
    names = np.asarray(groups).astype(str)
    alone = np.char.add("\x01", np.arange(names.size).astype(str))
    _, codes = np.unique(np.where(names == "", alone, names), return_inverse=True)
    if names.size and not np.any(names != ""):
        return codes.astype(np.int64), "unknown"
    if names.size > 1 and codes.max() + 1 < FEWEST_GROUPS:
        return np.arange(names.size, dtype=np.int64), "image"
    return codes.astype(np.int64), "group"


def parts(codes: Ints, most: int = MOST_PARTS, seed: int = 0) -> Ints:
    """The part [N] that each image is left out with: its cluster, or a random lot of clusters where there are many.

    Args:
        codes: cluster numbers [N], 0 and up without gaps.
        most: the largest number of parts.
        seed: of the lots, which hold equally many clusters.
    """
    count = int(codes.max()) + 1
    if count <= most:
        return codes
    lots: Ints = np.random.default_rng(seed).permutation(count) % most
    return lots[codes]
