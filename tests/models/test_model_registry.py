"""The registry of models: names, combinations, seeds and third parties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from bench.core.errors import UnknownName, UserError
from bench.core.identity import canonical
from bench.core.registry import Registry
from models.backbones.registry import BACKBONES, Backbone
from models.heads.config import HeadConfig, HeadSpec
from models.registry import HEADS, MODELS, ModelSpec


def test_every_model_of_the_paper_knows_its_name() -> None:
    named = {MODELS.get(name).paper_name: name for name in MODELS.match("deepmedix*")}
    assert named["DeepMediX"] == "deepmedix"
    assert named["Model-1"] == "deepmedix-gmp"
    assert named["Model-8"] == "deepmedix-wide-noskip-nodropout"
    assert len(named) == 9
    assert MODELS.match("table:4") == list(named.values())[1:]


def test_models_that_share_a_backbone_start_from_the_same_one() -> None:
    states = []
    for name in ("deepmedix-gmp", "deepmedix-wide", "mobilenet_v2"):
        torch.manual_seed(7)
        states.append(MODELS.get(name).build(4).backbone.state_dict())
    for other in states[1:]:
        assert all(torch.equal(value, other[name]) for name, value in states[0].items())


def test_another_state_gives_another_network_and_each_build_moves_on() -> None:
    spec = MODELS.get("squeezenet1_1")
    torch.manual_seed(7)
    first, second = (spec.build(3).backbone.features[0].weight for _ in range(2))
    assert not torch.equal(first, second)


def test_building_draws_once_from_the_generator_whatever_the_model() -> None:
    drawn = []
    for name in ("squeezenet1_1", "deepmedix-wide@shufflenet_v2_x1_0"):
        torch.manual_seed(7)
        MODELS.get(name).build(3)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])


def test_any_head_sits_on_any_backbone() -> None:
    spec = MODELS.get("deepmedix-wide@resnet18")
    assert (spec.name, spec.backbone, spec.head) == ("deepmedix-wide@resnet18", "resnet18", HEADS.get("deepmedix-wide"))
    assert MODELS.get("deepmedix@torchvision:resnet34").backbone == "torchvision:resnet34"
    assert MODELS.match("linear@squeezenet1_1,torchvision:resnet34") == ["linear@squeezenet1_1", "torchvision:resnet34"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depmedix", "no model is called 'depmedix'; did you mean deepmedix"),
        ("depmedix@resnet18", "no head is called 'depmedix'.*did you mean deepmedix"),
        ("deepmedix@resnet81", "no backbone is called 'resnet81'; did you mean resnet18"),
        ("torchvision:resnet81", "torchvision has no classification model called 'resnet81'"),
    ],
)
def test_unknown_names_offer_near_ones(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        MODELS.get(name)


def test_a_classifier_needs_two_classes() -> None:
    with pytest.raises(UserError, match="deepmedix cannot be built for 1 class"):
        MODELS.get("deepmedix").build(1)


def test_identities_are_plain_and_differ_for_every_model() -> None:
    identities = {canonical(MODELS.get(name).identity()) for name in MODELS.names()}
    assert len(identities) == len(MODELS.names())
    assert MODELS.get("deepmedix").identity()["head"]["widths"] == (64, 32, 16)


def test_a_third_party_brings_a_backbone_a_head_and_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def small_backbone() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 12, 3, stride=4), nn.ReLU())

    @dataclass(frozen=True)
    class CosineHead(HeadSpec):
        scale: float = 10.0

        def build(self, channels: int, num_classes: int) -> nn.Module:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes, bias=False))

    def register(models: Registry[ModelSpec]) -> None:
        BACKBONES.register("mine", Backbone("mine", 12, small_backbone, min_size=16))
        HEADS.register("cosine", CosineHead())
        models.register("mine-cosine", ModelSpec("mine-cosine", "mine", CosineHead(20.0), "my own", "mine"))

    class EntryPoint:
        def load(self) -> Callable[[Registry[ModelSpec]], None]:
            return register

    for registry in (BACKBONES, HEADS, MODELS):
        monkeypatch.setattr(registry, "_items", dict(registry._items))  # type: ignore[attr-defined]
    monkeypatch.setattr(MODELS, "_loaded", False)
    monkeypatch.setattr("bench.core.registry.entry_points", lambda **_: [EntryPoint()])
    assert "mine-cosine" in MODELS.names()
    images = torch.rand(2, 3, 16, 16)
    for name in ("mine-cosine", "cosine@mine", "cosine@squeezenet1_1", "deepmedix@mine"):
        assert MODELS.get(name).build(5)(torch.rand(2, 3, 32, 32) if "squeeze" in name else images).shape == (2, 5)
    assert MODELS.get("mine-cosine").identity()["head"]["scale"] == 20.0
    assert isinstance(MODELS.get("deepmedix@mine").head, HeadConfig)
