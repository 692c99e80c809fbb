"""Configurations of heads, as registered; the networks that they build are named, and imported when one is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.core.registry import imported
from models.baselines import OWN_CLASSIFIER

if TYPE_CHECKING:
    from torch import nn

Pooling = Literal["avg", "max"]


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

    def build(self, channels: int, num_classes: int) -> nn.Module:
        """Make the head for maps of `channels` channels."""
        made: nn.Module = imported("models.heads.dense:DeepMediXHead")(self, channels, num_classes)
        return made


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

    def build(self, channels: int, num_classes: int) -> nn.Module:
        """Make the head for maps of `channels` channels."""
        made: nn.Module = imported("models.heads.dense:LinearHead")(channels, num_classes)
        return made


@dataclass(frozen=True)
class PublishedHeadConfig(HeadSpec):
    """The classifier of a torchvision model with a new last layer.

    Args:
        network: torchvision's name of the model.
    """

    network: str

    @property
    def averages_first(self) -> bool:
        """Whether the map is averaged to one position before anything else happens to it."""
        return self._layers[0] == "avg"

    @property
    def published(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name of the tensors that weight files of the network must hold."""
        shapes: dict[str, tuple[int, ...]] = imported("models.heads.published:without_memory")(self.network).published
        return shapes

    @property
    def summary(self) -> str:
        """The classifier's layers."""
        return f"as published: {', '.join(self._layers)}, new last layer"

    def build(self, channels: int, num_classes: int) -> nn.Module:
        """Make the head, initialized as torchvision does it; `channels` must be those of the network's own map."""
        model = imported("models.backbones.extractors:torchvision_model")(self.network, num_classes=num_classes)
        made: nn.Module = imported("models.heads.published:PublishedHead")(model)
        return made

    @property
    def _layers(self) -> tuple[str, ...]:
        """The layers before the last: as they are known of a listed baseline, otherwise as the network tells."""
        if self.network in OWN_CLASSIFIER:
            return OWN_CLASSIFIER[self.network]
        layers: tuple[str, ...] = imported("models.heads.published:layers_in_words")(self.network)
        return layers
