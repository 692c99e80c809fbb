"""What a finished cell's predictor answers on images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analyses.support.averages import batches


def answered(cell: Any, images: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float64]:
    """Probabilities of images, uint8 [N, H, W, 3] at the cell's size: float64 [N, k]."""
    parts: Iterable[Any] = (cell.prepare(images[part]) for part in batches(len(images), batch))
    return np.asarray(cell.predictor.probabilities(parts), dtype=np.float64)
