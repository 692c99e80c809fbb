"""What counts as independent among test images, and the parts of it that a jackknife leaves out in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]

FEWEST_GROUPS = 2
# More parts cost time and bring nothing: Student's t with 199 degrees of freedom is the normal distribution.
MOST_PARTS = 200


def clusters(groups: ArrayLike) -> tuple[Ints, str]:
    """What a jackknife leaves out, as a number an image [N], and its unit, a key of `METHODS` (methods.py).

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
