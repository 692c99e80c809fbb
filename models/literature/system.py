"""What is said of a published system, and of what its model is made. No torch: reports read it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from models.heads.config import HeadSpec
from models.normalization import IMAGENET, Normalization

Sureness = Literal["the published network", "by its description", "largely chosen here"]


@dataclass(frozen=True)
class Figure:
    """A figure that a publication gives for itself.

    Attributes:
        accuracy: percent.
        protocol: what was tested on what: by image or by patient, hold-out or folds, one network or several.
    """

    dataset: str
    accuracy: float
    protocol: str


@dataclass(frozen=True)
class Publication:
    """A publication and how its system was read.

    Attributes:
        reference: its number in the DeepMediX paper, "[40]".
        figures: its own; the one that stands beside ours first.
        table: the DeepMediX paper's table that prints it; 0 where only its text names it.
        row: the printed system, as `reports/tables/published.csv` spells it.
        known: what is known of the system.
        chosen: what had to be chosen here, or is left out.
        sureness: how much of the model is the publication's.
        doubts: sentences that stand as footnotes wherever the figures do.
        foot: the table at whose foot its doubts stand where no row is its own.
        cost: parameters and operations that the publication prints, in its words; "" where it gives none, or where
            they are not to be had here.
    """

    reference: str
    citation: str
    figures: tuple[Figure, ...]
    known: str
    chosen: str
    sureness: Sureness
    table: int = 0
    row: str = ""
    doubts: tuple[str, ...] = ()
    cost: str = ""
    foot: int = 0


@dataclass(frozen=True)
class Own:
    """A backbone that a system brings along.

    Attributes:
        build: makes it; it imports torch when it is called.
        weights_url: of ImageNet weights; "" where the published network was trained from random ones.
        normalization: what the images were normalized with when those weights were trained.
        classifier, key_prefix: see `models.backbones.registry.Backbone`.
    """

    channels: int
    build: Callable[[], Any]
    min_size: int
    weights_url: str = ""
    normalization: Normalization = IMAGENET
    classifier: tuple[str, ...] = ()
    key_prefix: str = ""


@dataclass(frozen=True)
class System:
    """A model of the literature.

    Attributes:
        backbone: a registered one's name, or the system's own.
        head: "linear", "published" for the classifier of torchvision's model of the backbone's name, or one of its own.
        activation: takes the place of the network's own, as in `MODEL+ACTIVATION`; "" for none.
        caution: why its figures must not be believed, if so; it is then no part of `all` or of a table's pattern.
        augmentation: of its training images, in place of the kind of image's own; "" for that.
    """

    name: str
    summary: str
    publication: Publication
    backbone: str | Own
    head: Literal["linear", "published"] | HeadSpec = "linear"
    activation: str = ""
    recipe: str = "gradient"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    caution: str = ""
    augmentation: Literal["", "thirtyfold"] = ""
