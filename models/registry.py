"""Models by name: a backbone and a head each.

A third party adds its own through the entry-point group `bench.models`, or in a plugin file: a function that is called
with this module's `MODELS` and registers a `ModelSpec` there. A backbone or a head of its own goes into `BACKBONES` or
`HEADS`, and then combines with everything else as `HEAD@BACKBONE`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bench.core.errors import UnknownName, UserError
from bench.core.identity import derive_seed, without_defaults
from bench.core.registry import Registry, near_matches
from models import deepmedix
from models.backbones.registry import BACKBONES, Backbone, Published
from models.baselines import BASELINES, DEPARTURES, OWN_CLASSIFIER
from models.heads.config import HeadSpec, LinearHeadConfig, PublishedHeadConfig
from models.literature.catalogue import SYSTEMS
from models.literature.system import Own, Publication, System

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
        family: "deepmedix", "baseline", "literature", "combination", or a third party's own word.
        paper_name: what the DeepMediX paper calls it ("Model-3"), if it does.
        recipe: the name of the way in which it is fitted, in `RECIPES` (models/recipes/registry.py).
        options: plain values for the recipe.
        departure: how a baseline differs from the published network, beyond its new last layer.
        tables: the tables of the DeepMediX paper that print it.
        activation: the name in `ACTIVATIONS` of what stands in place of the network's own activations; "" for none.
        publication: what is said of a system of the literature.
        augmentation: of its training images where the protocol says "auto"; "" for that of the kind of image.
        caution: why its results must not be believed; such a model is no part of `all`, and its rows carry the words.
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
    tables: tuple[int, ...] = ()
    activation: str = ""
    publication: Publication | None = None
    augmentation: Literal["", "thirtyfold"] = ""

    def build(self, num_classes: int, build_backbone: Callable[[], nn.Module] | None = None) -> Network:
        """Build the network with random weights, which depend on the state of torch's default generator alone.

        Backbone and head are initialized under seeds of their own: from one state, models that share a backbone get the
        same backbone, whatever their heads, and each call advances the generator by one draw.

        Args:
            build_backbone: makes the backbone, in place of the registered one's own `build`.

        Raises:
            UserError: for fewer than two classes, or when the backbone cannot be had.
        """
        if num_classes < 2:
            raise UserError(f"{self.name} cannot be built for {num_classes} class: a classifier needs two or more")
        import torch

        from models.network import Network

        backbone = BACKBONES.get(self.backbone)
        seed = int(torch.randint(2**31 - 1, (), device="cpu"))
        extractor = _built_under(derive_seed("backbone", seed), build_backbone or backbone.build)
        head = _built_under(derive_seed("head", seed), lambda: self.head.build(backbone.channels, num_classes))
        network = Network(extractor, head)
        if self.activation:
            from models.activations import ACTIVATIONS, swap_activations

            swap_activations(network, ACTIVATIONS.get(self.activation), backbone.min_size)
        return network

    def identity(self) -> dict[str, Any]:
        """What a cell's key depends on, as plain values; summaries that only people read are left out."""
        fields = without_defaults(dataclasses.asdict(self.head), self.head.added)
        head = {"type": type(self.head).__qualname__, **fields}
        # Left out at their defaults: models were stored before they could choose.
        later = {name: getattr(self, name) for name in ("recipe", "activation", "augmentation")}
        later["options"] = dict(self.options)
        chosen = without_defaults(later, _LATER)
        return {"name": self.name, "backbone": self.backbone, "head": head, **chosen}


_LATER: dict[str, Any] = {"recipe": "gradient", "options": {}, "activation": "", "augmentation": ""}


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
            variant.name,
            deepmedix.BACKBONE,
            variant.head,
            variant.changes,
            "deepmedix",
            variant.paper_name,
            tables=(1, 2, 3) if variant.paper_name == "DeepMediX" else (4,),
        )
        MODELS.register(spec.name, spec)
    for name, summary in BASELINES.items():
        head = PublishedHeadConfig(name) if name in OWN_CLASSIFIER else LinearHeadConfig()
        spec = ModelSpec(name, name, head, summary, "baseline", departure=DEPARTURES.get(name, ""))
        MODELS.register(name, spec)
    for system in SYSTEMS:
        MODELS.register(system.name, _of_literature(system))
    MODELS.group("table", _printed_in)
    MODELS.resolver("+", _swapped)
    MODELS.resolver("@", _combination)
    MODELS.resolver("torchvision", _from_torchvision)
    MODELS.resolver("timm", _from_timm)


def _of_literature(system: System) -> ModelSpec:
    """The model of a system, whose own backbone, if it has one, is registered under the model's name."""
    own, publication = system.backbone, system.publication
    if isinstance(own, Own):
        published = Published(own.weights_url, own.normalization) if own.weights_url else None
        BACKBONES.register(
            system.name,
            Backbone(
                system.name,
                own.channels,
                own.build,
                own.min_size,
                weights=published,
                classifier=own.classifier,
                key_prefix=own.key_prefix,
                from_scratch=published is None,
            ),
        )
    backbone = system.name if isinstance(own, Own) else own
    return ModelSpec(
        system.name,
        backbone,
        _head_of(system, backbone),
        system.summary,
        "literature",
        publication.row,
        publication.chosen,
        recipe=system.recipe,
        options=dict(system.options),
        caution=system.caution,
        augmentation=system.augmentation,
        tables=(publication.table,) if publication.table else (),
        activation=system.activation,
        publication=publication,
    )


def _head_of(system: System, backbone: str) -> HeadSpec:
    if isinstance(system.head, HeadSpec):
        return system.head
    return PublishedHeadConfig(backbone) if system.head == "published" else LinearHeadConfig()


def _printed_in(table: str) -> list[str]:
    """The registered models that a table of the DeepMediX paper prints, by its number; none that carries a caution."""
    specs = [MODELS.get(name) for name in MODELS.names()]
    printed = [spec.name for spec in specs if table in map(str, spec.tables) and not spec.caution]
    if not printed:
        raise UnknownName(f"no model is printed in table {table!r} of the paper; there are table:1 to table:4")
    return printed


def _swapped(name: str) -> ModelSpec:
    """The model `MODEL+ACTIVATION`."""
    from models.activations import ACTIVATIONS

    model, _, activation = name.rpartition("+")
    spec, chosen = MODELS.get(model), ACTIVATIONS.get(activation)
    if spec.activation:
        raise UserError(f"{name}: {model} has the activation {spec.activation} already; swap one of another model")
    summary = f"{model} with the activation {activation}: {chosen.summary}"
    return dataclasses.replace(
        spec, name=name, summary=summary, family="combination", paper_name="", tables=(), activation=activation,
        publication=None,
    )  # fmt: skip


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
