"""Augmentation as tensor functions on a whole batch, every draw from one generator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.images.thirtyfold import thirtyfold
from bench.data.table import Kind

Augmentation = Kind | Literal["thirtyfold"]

ROTATION_DEGREES = {"brain": 10.0, "skin": 180.0, "other": 10.0}
BRIGHTNESS = 0.1
CONTRAST = 0.1
SATURATION = 0.1
_GRAY_WEIGHTS = (0.299, 0.587, 0.114)


def augment(batch: Tensor, kind: Augmentation, generator: torch.Generator) -> Tensor:
    """Flip, rotate and, for skin, jitter the colours of each image by a draw of its own.

    A brain slice is mirrored left to right and turned a little; a skin lesion has no upright, so it is also turned
    upside down and by any angle, and its light varies. Pixels from outside repeat the border.

    Args:
        batch: float [N, 3, H, W] in 0 ... 1; not changed in place.
        kind: brain, skin or other: how far images are turned, and whether their light varies; or "thirtyfold", for
            one of thirty other changes each.
        generator: on the CPU, so that the draws are the same on every device.

    Returns:
        float [N, 3, H, W] in 0 ... 1, on the batch's device.
    """
    if kind == "thirtyfold":
        return thirtyfold(batch, generator)
    batch = flipped(batch, generator, dimension=3)
    if kind == "skin":
        batch = flipped(batch, generator, dimension=2)
    batch = rotated(batch, ROTATION_DEGREES[kind], generator)
    return jittered(batch, generator) if kind == "skin" else batch


def flipped(batch: Tensor, generator: torch.Generator, dimension: int) -> Tensor:
    """Mirror half of the images, by a coin each, along a dimension (3: left to right, 2: upside down).

    Args:
        batch: [N, 3, H, W].
        generator: on the CPU.
    """
    coins = torch.rand(len(batch), generator=generator).to(batch.device) < 0.5
    return torch.where(coins[:, None, None, None], batch.flip(dimension), batch)


def rotated(batch: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image about its centre by an angle drawn from -degrees ... degrees, bilinear.

    Args:
        batch: float [N, 3, H, W].
        generator: on the CPU.
    """
    angles = torch.deg2rad(_uniform(len(batch), degrees, generator)).to(batch)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    matrices = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = F.affine_grid(matrices, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jittered(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Scale each image's brightness, contrast and saturation by factors near 1."""
    brightness, contrast, saturation = (
        (1 + _uniform(len(batch), most, generator)).to(batch)[:, None, None, None]
        for most in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    batch = batch * brightness
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    gray = (batch * batch.new_tensor(_GRAY_WEIGHTS)[None, :, None, None]).sum(1, keepdim=True)
    return (gray + (batch - gray) * saturation).clamp(0, 1)


def _uniform(count: int, most: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * most
