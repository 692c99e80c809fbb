"""A small convolutional network as a head on the image itself: the configuration that a search changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.core.registry import imported
from models.heads.config import HeadSpec, Pooling

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "leaky_relu", "elu", "selu"]


@dataclass(frozen=True)
class GenomeHeadConfig(HeadSpec):
    """Blocks of one convolution, an activation and a pooling over 2 x 2; a global average, a dense layer, the output.

    Args:
        filters: of each block's convolution, first to last.
        kernel: side of the convolutions, pixels; odd.
        pooling: maximum or average, in the blocks.
        width: units of the dense layer.
        activation: behind convolutions and the dense layer.
        dropout: probability of dropping, before the dense layer and before the output.
        members: networks of this kind whose probabilities are averaged.
    """

    filters: tuple[int, ...] = (16, 32, 64)
    kernel: int = 3
    pooling: Pooling = "max"
    width: int = 64
    activation: Activation = "relu"
    dropout: float = 0.2
    members: int = 1

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> GenomeHeadConfig:
        """From its JSON values. Raises KeyError or TypeError for what is none."""
        return cls(**{**values, "filters": tuple(values["filters"])})

    @property
    def summary(self) -> str:
        """Its layers in a few words."""
        layers = "-".join(map(str, self.filters))
        return f"{layers} filters of {self.kernel}, {self.pooling} pooling, dense {self.width}, {self.activation}"

    def build(self, channels: int, num_classes: int) -> nn.Module:
        """Make the networks for inputs of `channels` channels."""
        made: nn.Module = imported("models.heads.evolved:EvolvedHead")(self, channels, num_classes)
        return made
