"""Baselines are the published networks with a new last layer: operations, parameters, logits and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.harness.listing import model_card
from bench.measure.cost import cost
from models.backbones.probe import build_without_memory
from models.backbones.registry import BACKBONES
from models.baselines import BASELINES, OWN_CLASSIFIER
from models.calibrate import calibrate
from models.heads.config import LinearHeadConfig, PublishedHeadConfig
from models.heads.published import PublishedHead, layers_in_words, published_head
from models.network import Network
from models.registry import MODELS
from models.weights.initial import WeightsError, load, resolve

# Inception's published count of parameters has the auxiliary classifier that its card says is left out.
AUXILIARY = {"inception_v3": 3_326_696}

# The others are not torchvision's.
TORCHVISIONS = [name for name in BASELINES if name != "efficientnet_lite0"]


def without_memory(name: str, classes: int) -> Network:
    network = build_without_memory(lambda: MODELS.get(name).build(classes))
    assert isinstance(network, Network)
    return network


def published_weights(name: str) -> Any:
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_parameters_and_operations_are_the_published_ones(name: str) -> None:
    published = published_weights(name)
    found = cost(MODELS.get(name).build(1000), published.transforms().crop_size[0])
    assert round(found.params_m * 1e6) == published.meta["num_params"] - AUXILIARY.get(name, 0)
    # torchvision prints billions of multiply-accumulates to three digits, which leaves half a million either way.
    assert found.macs_m == pytest.approx(1000 * published.meta["_ops"], abs=0.6, rel=1e-4)


def last_of(network: Network) -> str:
    return network.head.last_layer if isinstance(network.head, PublishedHead) else "output"


@pytest.mark.parametrize("name", [*BASELINES, "torchvision:maxvit_t", "torchvision:alexnet"])
def test_another_number_of_classes_changes_the_last_layer_alone(name: str) -> None:
    wide, narrow = without_memory(name, 1000), without_memory(name, 7)
    shapes = narrow.state_dict()
    other = {key for key, value in wide.state_dict().items() if shapes[key].shape != value.shape}
    last = wide.head.get_submodule(last_of(wide))
    assert other == {f"head.{last_of(wide)}.{part}" for part, value in last.state_dict().items()}
    assert all(shapes[key].shape[0] == 7 for key in other)


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_the_list_of_own_classifiers_is_right(name: str) -> None:
    expected = PublishedHeadConfig(name) if name in OWN_CLASSIFIER else LinearHeadConfig()
    assert published_head(name) == MODELS.get(name).head == expected


def torchvisions_own(name: str, path: Path, size: int = 64) -> tuple[nn.Module, dict[str, Tensor]]:
    """torchvision's model with 1000 classes, whose activations do not vanish, and its state, written to a file."""
    torch.manual_seed(5)
    options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    calibrate(model, [(torch.randn(4, 3, size, size), torch.zeros(4))])
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, path)
    return model, state


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 64), ("mobilenet_v3_small", 64), ("mobilenet_v2", 64), ("mnasnet1_0", 64), ("googlenet", 64),
        ("inception_v3", 80), ("convnext_tiny", 64), ("efficientnet_b0", 64), ("torchvision:alexnet", 80),
        ("torchvision:maxvit_t", 224),
    ],
)  # fmt: skip
def test_with_published_weights_and_the_last_layer_it_is_torchvisions_own_model(
    name: str, size: int, tmp_path: Path
) -> None:
    theirs, state = torchvisions_own(name.removeprefix("torchvision:"), tmp_path / "w.safetensors", size)
    spec = MODELS.get(name)
    network = spec.build(1000).eval()
    load(network, resolve(str(tmp_path / "w.safetensors"), spec))
    head = network.head
    assert isinstance(head, PublishedHead)
    last = head.get_submodule(head.last_layer)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert not torch.allclose(network(images), theirs(images), rtol=1e-4, atol=1e-5)
        last.load_state_dict({part: state[f"{head.last_layer}.{part}"] for part in last.state_dict()})
        torch.testing.assert_close(network(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_the_kept_layers_are_loaded_and_the_last_one_is_not(tmp_path: Path) -> None:
    _, state = torchvisions_own("mobilenet_v3_small", tmp_path / "w.safetensors")
    spec = MODELS.get("mobilenet_v3_small")
    network = spec.build(4)
    before = network.head.state_dict()["classifier.3.weight"].clone()
    load(network, resolve(str(tmp_path / "w.safetensors"), spec))
    assert torch.equal(network.head.state_dict()["classifier.0.weight"], state["classifier.0.weight"])
    assert torch.equal(network.head.state_dict()["classifier.3.weight"], before)


def test_a_file_of_features_alone_does_not_start_a_published_classifier(tmp_path: Path) -> None:
    _, state = torchvisions_own("mobilenet_v3_small", tmp_path / "w.safetensors")
    features = {key: value for key, value in state.items() if not key.startswith("classifier")}
    save_file(features, tmp_path / "features.safetensors")
    path = str(tmp_path / "features.safetensors")
    message = r"lacks layers of the published classifier \(2 missing: classifier.0.weight.*choose linear@mobilenet_v3_s"
    with pytest.raises(WeightsError, match=message):
        resolve(path, MODELS.get("mobilenet_v3_small"))
    for other in ("linear@mobilenet_v3_small", "deepmedix@mobilenet_v3_small"):
        load(MODELS.get(other).build(3), resolve(path, MODELS.get(other)))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_tuning_the_head_trains_the_classifier_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS.get(name).build(3).freeze_backbone().train()
    nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.tensor([0, 1, 2, 0])).backward()
    learning = {key for key, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {f"head.{key}" for key, _ in network.head.named_parameters()}


@pytest.mark.parametrize("name", OWN_CLASSIFIER)
def test_a_published_classifier_that_averages_first_gives_the_same_on_stored_averages(name: str) -> None:
    if name == "vgg19":
        assert not MODELS.get(name).head.averages_first
        return
    torch.manual_seed(0)
    spec = MODELS.get(name)
    head = spec.head.build(BACKBONES.get(spec.backbone).channels, 5).eval()
    maps = torch.rand(3, BACKBONES.get(spec.backbone).channels, 4, 4)
    with torch.no_grad():
        same = torch.allclose(head(maps), head(maps.mean((2, 3), keepdim=True)), rtol=1e-4, atol=1e-5)
        half = head(maps.half())
    assert spec.head.averages_first == (name != "squeezenet1_1")
    assert same or not spec.head.averages_first
    assert half.dtype == torch.float32


def test_a_head_on_a_backbone_is_the_feature_map_as_before() -> None:
    for name in ("linear@squeezenet1_1", "linear@mobilenet_v3_small"):
        spec = MODELS.get(name)
        assert spec.head == LinearHeadConfig()
        assert set(without_memory(name, 3).head.state_dict()) == {"output.weight", "output.bias"}


def test_a_card_says_what_is_not_as_published() -> None:
    departs = "departs from the published network"
    assert "auxiliary classifier is left out" in model_card("inception_v3", 4)[departs]
    card = model_card("mobilenet_v3_small", 4)
    assert card[departs] == "no"
    assert card["head"] == "as published: avg, Linear 576-1024, Hardswish, Dropout, new last layer"
    assert departs not in model_card("deepmedix", 4)


@pytest.mark.parametrize("name", list(OWN_CLASSIFIER))
def test_the_layers_written_down_for_listings_are_those_of_torchvision(name: str) -> None:
    assert layers_in_words(name) == OWN_CLASSIFIER[name]


def test_an_unlisted_network_tells_its_layers_itself() -> None:
    assert PublishedHeadConfig("mobilenet_v3_small").summary.startswith("as published: avg, Linear 576-1024")
    assert PublishedHeadConfig("vgg11").summary.startswith("as published: AdaptiveAvgPool2d, Linear 25088-4096")
    assert not PublishedHeadConfig("vgg11").averages_first
