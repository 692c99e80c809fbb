"""Models by name: a backbone and a head each.

A third party adds its own through the entry-point group `bench.models`, or in a plugin file: a function that is called
with this module's `MODELS` and registers a `ModelSpec` there. A backbone or a head of its own goes into `BACKBONES` or
`HEADS`, and then combines with everything else as `HEAD@BACKBONE`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.core.errors import UnknownName, UserError
from bench.core.identity import derive_seed, without_defaults
from bench.core.registry import Registry, near_matches
from models import deepmedix
from models.backbones.registry import BACKBONES
from models.baselines import BASELINES, DEPARTURES, OWN_CLASSIFIER
from models.heads.config import HeadSpec, LinearHeadConfig, PublishedHeadConfig

if TYPE_CHECKING:
    from torch import nn

    from models.network import Network


@dataclass(frozen=True)
class ModelSpec:
    """A registered model.

    Args:
        name: the registered name.
        backbone: the name of its backbone in `BACKBONES`.
        head: the configuration that builds its head.
        summary: one line for the listing: what it is, or what it changes.
        family: "deepmedix", "baseline", "combination", or a third party's own word.
        paper_name: what the DeepMediX paper calls it ("Model-3"), if it does.
        recipe: the name of the way in which it is fitted, in `RECIPES` (models/recipes/registry.py).
        options: plain values for the recipe.
        departure: how a baseline differs from the published network, beyond its new last layer.
        caution: why its figures must not be believed; such a model is no part of `all`, and its rows carry the words.
    """

    name: str
    backbone: str
    head: HeadSpec
    summary: str = ""
    family: str = "other"
    paper_name: str = ""
    departure: str = ""
    recipe: str = "gradient"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    caution: str = ""

    def build(self, num_classes: int) -> Network:
        """Build the network with random weights, which depend on the state of torch's default generator alone.

        Backbone and head are initialized under seeds of their own: from one state, models that share a backbone get the
        same backbone, whatever their heads, and each call advances the generator by one draw.

        Raises:
            UserError: for fewer than two classes, or when the backbone cannot be had.
        """
        if num_classes < 2:
            raise UserError(f"{self.name} cannot be built for {num_classes} class: a classifier needs two or more")
        import torch

        from models.network import Network

        backbone = BACKBONES.get(self.backbone)
        seed = int(torch.randint(2**31 - 1, (), device="cpu"))
        trunk = _built_under(derive_seed("backbone", seed), backbone.build)
        head = _built_under(derive_seed("head", seed), lambda: self.head.build(backbone.channels, num_classes))
        return Network(trunk, head)

    def identity(self) -> dict[str, Any]:
        """What a cell's key depends on, as plain values; summaries that only people read are left out."""
        fields = without_defaults(dataclasses.asdict(self.head), self.head.added)
        head = {"type": type(self.head).__qualname__, **fields}
        # Left out at their defaults: models were stored before they could choose.
        fitted = without_defaults({"recipe": self.recipe, "options": dict(self.options)}, _FITTED)
        return {"name": self.name, "backbone": self.backbone, "head": head, **fitted}


_FITTED: dict[str, Any] = {"recipe": "gradient", "options": {}}


def _built_under(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build with the default generator set to a seed, and put it back as it was."""
    import torch

    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        return build()
    finally:
        torch.set_rng_state(state)


HEADS: Registry[HeadSpec] = Registry("head", kind=HeadSpec, listing="bench models list")
MODELS: Registry[ModelSpec] = Registry("model", "bench.models", kind=ModelSpec)


def _register_all() -> None:
    HEADS.register("linear", LinearHeadConfig())
    for variant in deepmedix.VARIANTS:
        HEADS.register(variant.name, variant.head)
        spec = ModelSpec(
            variant.name, deepmedix.BACKBONE, variant.head, variant.changes, "deepmedix", variant.paper_name
        )
        MODELS.register(spec.name, spec)
    for name, summary in BASELINES.items():
        head = PublishedHeadConfig(name) if name in OWN_CLASSIFIER else LinearHeadConfig()
        spec = ModelSpec(name, name, head, summary, "baseline", departure=DEPARTURES.get(name, ""))
        MODELS.register(name, spec)
    MODELS.resolver("@", _combination)
    MODELS.resolver("torchvision", _from_torchvision)
    MODELS.resolver("timm", _from_timm)


def _combination(name: str) -> ModelSpec:
    """The model `HEAD@BACKBONE`."""
    head, _, backbone = name.partition("@")
    if head not in HEADS.names():
        raise UnknownName(f"no head is called {head!r} (in {name!r}); {near_matches(head, HEADS.names())}")
    BACKBONES.get(backbone)
    return ModelSpec(name, backbone, HEADS.get(head), f"the head of {head} on {backbone}", "combination")


def _from_torchvision(name: str) -> ModelSpec:
    full_name = f"torchvision:{name}"
    BACKBONES.get(full_name)
    from models.heads.published import published_head

    summary = f"{full_name} with a new last layer"
    return ModelSpec(full_name, full_name, published_head(name), summary, "baseline", "", DEPARTURES.get(name, ""))


def _from_timm(name: str) -> ModelSpec:
    full_name = f"timm:{name}"
    BACKBONES.get(full_name)
    departure = (
        "one linear layer on the average of its map, or on a transformer's own pooled features, stands in place of "
        "timm's own classifier"
    )
    return ModelSpec(
        full_name, full_name, LinearHeadConfig(), f"{full_name} with a plain linear head", "baseline", "", departure
    )


_register_all()
