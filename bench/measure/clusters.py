"""What counts as independent among test images, and the draws of a bootstrap over it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_GROUPS = 10


def clusters(groups: ArrayLike) -> tuple[Ints, str]:
    """What the bootstrap draws: a cluster number an image [N], and "group" or "image".

    With fewer than `FEWEST_GROUPS` groups (author's folds standing in for patients, say) a clustered bootstrap has
    nothing to draw from; images are drawn then, and every table that uses the interval says so.
    An empty name means that the image has no known group and stands for itself.
    """
    names = np.asarray(groups).astype(str)
    alone = np.char.add("\x00", np.arange(names.size).astype(str))
    _, codes = np.unique(np.where(names == "", alone, names), return_inverse=True)
    if codes.size and codes.max() + 1 < FEWEST_GROUPS:
        return np.arange(names.size, dtype=np.int64), "image"
    return codes.astype(np.int64), "group"


def draws(codes: Ints, resamples: int, seed: int) -> Floats:
    """How often each cluster is drawn: [resamples, clusters], every row sums to the number of clusters. Read-only."""
    return _draws(int(codes.max()) + 1, resamples, seed)


@lru_cache(maxsize=8)
def _draws(count: int, resamples: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
    drawn.setflags(write=False)
    return drawn
