"""Heads: feature map [N, C, h, w] -> logits [N, k]; DeepMediX's with its ablations, and the baselines' linear one.

A head stands on its own: with a frozen backbone it is trained on cached maps and never sees an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.map_dropout import Pooling, draw_mask, masked_pool


@dataclass(frozen=True)
class HeadSpec(ABC):
    """A head's configuration: a frozen dataclass, whose fields are part of a cell's identity.

    Attributes:
        added: fields that a class got after cells were stored with it, each with its default of that day: at this value
            a field is left out of the identity, so that those cells keep their keys.
    """

    added: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def build(self, channels: int, num_classes: int) -> nn.Module:
        """Make the head for maps of `channels` channels; it maps [N, channels, h, w] to [N, num_classes]."""

    @property
    def averages_first(self) -> bool:
        """Whether the map's spatial means are all that the head uses, so that they can be stored in its place."""
        return False

    @property
    def summary(self) -> str:
        """A few words for listings."""
        return type(self).__name__


@dataclass(frozen=True)
class HeadConfig(HeadSpec):
    """DeepMediX's head (reading row 5) and the switches of its ablation (row 6).

    Args:
        pooling: global average ("avg") or global maximum ("max") over the map.
        skip: whether the pooled features are joined to the second hidden layer's output.
        dropout_modules: whether the five Dropouts and the three BatchNorms are there (section 4.3 of the paper removes
            both together).
        widths: units of the three hidden layers.
        dropout_rate: probability of dropping, in all five places.
    """

    pooling: Pooling = "avg"
    skip: bool = True
    dropout_modules: bool = True
    widths: tuple[int, int, int] = (64, 32, 16)
    dropout_rate: float = 0.4

    def __post_init__(self) -> None:
        if self.pooling not in ("avg", "max"):
            raise ValueError(f"pooling is avg or max, not {self.pooling!r}")
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"a head has three hidden layers of one unit or more, not {self.widths=}")
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"a dropout rate lies in [0, 1), not at {self.dropout_rate=}")

    @property
    def averages_first(self) -> bool:
        """True without the Dropout that stands before the pooling, and with average pooling."""
        return self.pooling == "avg" and not self.drops

    @property
    def drops(self) -> bool:
        """Whether anything is dropped in training."""
        return self.dropout_modules and self.dropout_rate > 0

    @property
    def summary(self) -> str:
        """Pooling, widths, and what is there."""
        parts = {"skip": self.skip, "dropout": self.dropout_modules}
        there = [f"{'' if present else 'no '}{name}" for name, present in parts.items()]
        return ", ".join([self.pooling, "-".join(map(str, self.widths)), *there])

    def build(self, channels: int, num_classes: int) -> DeepMediXHead:
        """Make the head for maps of `channels` channels."""
        return DeepMediXHead(self, channels, num_classes)


@dataclass(frozen=True)
class LinearHeadConfig(HeadSpec):
    """The plain head of the baselines: global average pooling and one linear layer."""

    @property
    def averages_first(self) -> bool:
        """Always true."""
        return True

    @property
    def summary(self) -> str:
        """Its two steps."""
        return "avg, linear"

    def build(self, channels: int, num_classes: int) -> LinearHead:
        """Make the head for maps of `channels` channels."""
        return LinearHead(channels, num_classes)


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
