"""Two convolutional paths side by side."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

_CHANNELS = (3, 16, 32, 64, 128)


class TwoPaths(nn.Module):
    """Paths with kernels of 3 and of 5 pixels whose maps are concatenated: [N, 3, H, W] -> [N, 256, H/16, W/16]."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = _path(3), _path(5)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to the joined map."""
        return torch.cat([self.fine(images), self.coarse(images)], dim=1)


def _path(kernel: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(_CHANNELS):
        layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)
