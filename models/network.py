"""A network: a backbone that turns images into a feature map, and a head that turns the map into logits."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from models.normalization import IMAGENET, UNIT, Normalization, per_colour

__all__ = ["IMAGENET", "UNIT", "Network", "Normalization"]


class Network(nn.Module):
    """`head(backbone(images))`; images are normalized by the caller, with `normalize`.

    The normalization is kept in buffers outside the state dict, so that the state is `backbone.*` and `head.*` alone.

    Args:
        backbone: images [N, 3, H, W] -> map [N, C, h, w].
        head: map [N, C, h, w] -> logits [N, k].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, normalization: Normalization = IMAGENET) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._frozen = False
        self.register_buffer("mean", per_colour(normalization.mean), persistent=False)
        self.register_buffer("std", per_colour(normalization.std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images [N, 3, H, W] to logits [N, k]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Map normalized images [N, 3, H, W] to the backbone's map [N, C, h, w], without gradient when it is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            feature_map: Tensor = self.backbone(images)
        return feature_map

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 (0-255) or floating (0-1) images [N, 3, H, W] into what the backbone expects."""
        if not images.is_floating_point():
            images = images.to(self.mean.dtype).div_(255.0)
        return (images - self.mean) / self.std

    def set_normalization(self, normalization: Normalization) -> None:
        """Use another mean and std from now on."""
        self.mean.copy_(per_colour(normalization.mean))
        self.std.copy_(per_colour(normalization.std))

    @property
    def backbone_frozen(self) -> bool:
        """Whether `freeze_backbone` was called."""
        return self._frozen

    def freeze_backbone(self) -> Self:
        """Train the head alone: no gradient goes into the backbone, and its BatchNorm statistics stay as they are."""
        self._frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        self.backbone.train(mode and not self._frozen)
        return self
