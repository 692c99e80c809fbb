"""What the corruptions of every modality share: their shape, the way to 0-1 and back, and resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.errors import UserError

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Corruption = Callable[[Pixels, int, np.random.Generator], Pixels]
"""(uint8 [H, W, 3], severity 1 to 5, generator) -> uint8 [H, W, 3].

What is random depends on the generator alone and is drawn alike at every severity, so that from one seed a higher
severity is the same accident made worse.
"""

Value = TypeVar("Value")
SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE_SIZE = 224
"""The side of the images for which lengths in pixels are given; they follow an image's own size."""


def at(values: Sequence[Value], severity: int) -> Value:
    """The value of a severity. Raises UserError outside 1 to 5."""
    if severity not in SEVERITIES:
        raise UserError(f"severities run from 1 to 5, not {severity=}")
    return values[severity - 1]


def unit(image: Pixels) -> Floats:
    """0-255 as 0-1."""
    return image.astype(np.float64) / 255


def byte(values: Floats) -> Pixels:
    """0-1 as 0-255: clipped and rounded."""
    rounded: Pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return rounded


def scaled(length: float, image: NDArray[np.generic]) -> float:
    """A length in pixels of a 224 x 224 image, in pixels of this one."""
    return length * float(min(image.shape[:2])) / REFERENCE_SIZE


def resized(image: Pixels, height: int, width: int, how: Image.Resampling) -> Pixels:
    """The image at another size.

    Args:
        image: uint8 [H, W, 3].
        height, width: of the new one, in pixels.
        how: pixels are interpolated.
    """
    return np.asarray(Image.fromarray(image).resize((width, height), how))


def zoomed(image: Pixels, factor: float) -> Pixels:
    """The middle of the image, enlarged `factor` times (1 or more) by bilinear interpolation."""
    height, width = image.shape[:2]
    away_x, away_y = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
    box = (away_x, away_y, width - away_x, height - away_y)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))
