"""How pixels are normalized; imports nothing heavy, since what is known of weights holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from, and divided into, the 0-1 pixels of each colour before the backbone sees them."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalize images [N, 3, H, W] of 0-1 pixels."""
        mean, std = (per_colour(values).to(pixels) for values in (self.mean, self.std))
        return (pixels - mean).div_(std)


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# GoogLeNet's and Inception's weights were trained on pixels scaled to [-1, 1]; torchvision's own models turn ImageNet's
# normalization back into that by `transform_input`, which the feature extractors here leave out.
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def per_colour(values: tuple[float, float, float]) -> Tensor:
    """Three numbers as [1, 3, 1, 1], to be used with images [N, 3, H, W]."""
    import torch

    return torch.tensor(values).view(1, 3, 1, 1)
