"""Inception-v4 with a long skip connection from its stem to its end."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.registry import import_timm

STEM = 6  # the first layers of timm's `features`, whose last one is Mixed5a: 384 channels


class LongSkipInception(nn.Module):
    """timm's Inception-v4, its stem's map averaged to the last map's size and joined to it: [N, 1920, h, w].

    Parameters have the names that `timm:inception_v4` gives them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = import_timm().create_model("inception_v4", pretrained=False, num_classes=0)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to features [N, 1920, h, w]."""
        # One by one: a slice is a module of its own, which torch.fx does not find in this one.
        layers: list[nn.Module] = list(self.model.features)
        early = functools.reduce(_applied, layers[:STEM], images)
        late = functools.reduce(_applied, layers[STEM:], early)
        return torch.cat([F.adaptive_avg_pool2d(early, (late.shape[2], late.shape[3])), late], dim=1)


def _applied(values: Tensor, layer: nn.Module) -> Tensor:
    found: Tensor = layer(values)
    return found
