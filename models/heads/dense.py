"""Heads: feature map [N, C, h, w] -> logits [N, k]; DeepMediX's with its ablations, and the baselines' linear one.

A head stands on its own: with a frozen backbone it is trained on cached maps and never sees an image.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.config import HeadConfig, Pooling
from models.heads.map_dropout import draw_mask, masked_pool


class LinearHead(nn.Module):
    """Global average pooling, then a linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(channels, num_classes)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map [N, C, h, w] to logits [N, k]."""
        logits: Tensor = self.output(global_pool(feature_map, "avg").to(self.output.weight.dtype))
        return logits


class DeepMediXHead(nn.Module):
    """Dropout on the map, pooling, two hidden layers, the pooled features joined in, a third one, and the output.

    Each hidden layer is Dropout, Linear, ReLU, BatchNorm, in this order; another Dropout stands before the output.
    Several heads can share one draw of the first Dropout: draw it once with `draw_mask` and hand it to each.
    """

    def __init__(self, config: HeadConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        first, second, third = config.widths
        self.first = _hidden(config, channels, first)
        self.second = _hidden(config, first, second)
        self.third = _hidden(config, second + channels if config.skip else second, third)
        self.dropout = nn.Dropout(config.dropout_rate) if config.dropout_modules else nn.Identity()
        self.output = nn.Linear(third, num_classes)

    def forward(self, feature_map: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map [N, C, h, w], of any floating type, to logits [N, k].

        `mask`, bool [N, C, h, w], takes the place of the first Dropout's own draw in training; it must have been drawn
        at this head's rate (`draw_mask`).
        """
        return self.classify(self.pool(feature_map, mask))

    @property
    def drops_map(self) -> bool:
        """Whether elements of the map are dropped now: in training, unless the dropout modules are switched off."""
        return self.training and self.config.drops

    def draw_mask(self, feature_map: Tensor) -> Tensor:
        """Draw the first Dropout's mask for this map: bool [N, C, h, w], true where kept."""
        return draw_mask(feature_map, self.config.dropout_rate)

    def pool(self, feature_map: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the first Dropout and the pooling: [N, C, h, w] -> [N, C], float32 or wider."""
        if not self.drops_map:
            return global_pool(feature_map, self.config.pooling)
        keep = 1.0 - self.config.dropout_rate
        if not (feature_map.requires_grad and torch.is_grad_enabled()):
            mask = self.draw_mask(feature_map) if mask is None else mask
            return masked_pool(feature_map, mask, self.config.pooling).div_(keep)
        if mask is None:
            return global_pool(F.dropout(feature_map, self.config.dropout_rate), self.config.pooling)
        return global_pool(feature_map * mask, self.config.pooling) / keep

    def classify(self, pooled: Tensor) -> Tensor:
        """Pooled features [N, C] -> logits [N, k]."""
        pooled = pooled.to(self.output.weight.dtype)
        hidden = self.second(self.first(pooled))
        if self.config.skip:
            hidden = torch.cat([hidden, pooled.to(hidden.dtype)], dim=1)
        logits: Tensor = self.output(self.dropout(self.third(hidden)))
        return logits


def _hidden(config: HeadConfig, inputs: int, units: int) -> nn.Sequential:
    layers: dict[str, nn.Module] = {"linear": nn.Linear(inputs, units), "relu": nn.ReLU()}
    if config.dropout_modules:
        layers = {"dropout": nn.Dropout(config.dropout_rate), **layers, "norm": nn.BatchNorm1d(units)}
    return nn.Sequential(OrderedDict(layers))


def global_pool(feature_map: Tensor, pooling: Pooling) -> Tensor:
    """Pool a map over its positions: [N, C, h, w] -> [N, C], in float32 or in the map's type where that is wider."""
    if feature_map.element_size() < 4:
        feature_map = feature_map.float()
    # The adaptive pools are operators that fvcore counts or at least names; mean and amax vanish from its tables.
    if pooling == "max":
        return F.adaptive_max_pool2d(feature_map, 1).flatten(1)
    return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)
