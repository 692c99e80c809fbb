"""Thirty fixed changes of an image, of the eight families that Sajjad et al. (2019) name.

The publication makes 30 stored copies of each image; here each image of a batch gets one of the 30, drawn anew, so that
30 epochs see about what one of theirs does. The families are the publication's, the parameters' values are chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

Change = Callable[[Tensor], Tensor]
_ANGLES = (-30, -20, -10, -5, 5, 10, 20, 30)
_SHEARS = (-0.2, -0.1, 0.1, 0.2)
_SKEWS = (-0.3, -0.15, 0.15, 0.3)
_SIGMAS = (0.5, 1.0, 1.5)
_SHARPNESS = (0.5, 1.0, 2.0)
_LAPLACE = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
_SOBEL_ACROSS = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_SOBEL_DOWN = ((-1.0, -2.0, -1.0), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0))
_EMBOSS = (
    ((-1.0, -1.0, 0.0), (-1.0, 0.0, 1.0), (0.0, 1.0, 1.0)),
    ((0.0, -1.0, -1.0), (1.0, 0.0, -1.0), (1.0, 1.0, 0.0)),
    ((0.0, -1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
)


def thirtyfold(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Change each image by one of `CHANGES`, drawn with equal chances.

    Args:
        batch: float [N, 3, H, W] in 0 ... 1; not changed in place.
        generator: on the CPU, so that the draws are the same on every device.

    Returns:
        float [N, 3, H, W] in 0 ... 1, on the batch's device.
    """
    drawn = torch.randint(len(CHANGES), (len(batch),), generator=generator)
    changed = batch.clone()
    for number in sorted(set(drawn.tolist())):
        rows = (drawn == number).to(batch.device)
        changed[rows] = CHANGES[number](batch[rows]).clamp(0, 1)
    return changed


def _placed(batch: Tensor, matrix: tuple[tuple[float, ...], tuple[float, ...]], skew: float = 0.0) -> Tensor:
    """Look at each pixel's place through a matrix [2, 3]; a skew narrows the image from one side to the other."""
    thetas = batch.new_tensor(matrix).expand(len(batch), 2, 3)
    grid = F.affine_grid(thetas, list(batch.shape), align_corners=False)
    grid = grid / (1 + skew * grid[..., 1:]) if skew else grid
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _turned(degrees: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cosine, -sine, 0.0), (sine, cosine, 0.0)


def _filtered(batch: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    """Each colour under a kernel [3, 3] or [7, 7], the border repeated."""
    weight = batch.new_tensor(kernel).expand(3, 1, -1, -1)
    around = len(kernel) // 2
    return F.conv2d(F.pad(batch, (around,) * 4, mode="replicate"), weight, groups=3)


def _blurred(batch: Tensor, sigma: float) -> Tensor:
    line = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(-3, 4)]
    total = sum(line) ** 2
    return _filtered(batch, tuple(tuple(a * b / total for b in line) for a in line))


def _sharpened(batch: Tensor, strength: float) -> Tensor:
    return batch + strength * (batch - _blurred(batch, 1.0))


def _edges(batch: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    return _filtered(batch, kernel).abs()


def _embossed(batch: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    return 0.5 + _filtered(batch, kernel) / 2


CHANGES: tuple[Change, ...] = (
    *(partial(_placed, matrix=_turned(angle)) for angle in _ANGLES),
    partial(torch.flip, dims=(3,)),
    partial(torch.flip, dims=(2,)),
    *(partial(_placed, matrix=_turned(0), skew=skew) for skew in _SKEWS),
    *(partial(_placed, matrix=((1.0, shear, 0.0), (0.0, 1.0, 0.0))) for shear in _SHEARS),
    *(partial(_blurred, sigma=sigma) for sigma in _SIGMAS),
    *(partial(_sharpened, strength=strength) for strength in _SHARPNESS),
    *(partial(_edges, kernel=kernel) for kernel in (_LAPLACE, _SOBEL_ACROSS, _SOBEL_DOWN)),
    *(partial(_embossed, kernel=kernel) for kernel in _EMBOSS),
)
