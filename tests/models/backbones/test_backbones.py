"""Backbones: what is registered is true, and what the libraries offer can be used."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bench.core.errors import UnknownName, UserError
from models.backbones import registry as backbones
from models.backbones.extractors import TransformerExtractor
from models.backbones.probe import build_without_memory, probe
from models.backbones.registry import BACKBONES, Backbone, Published, effective_size
from models.baselines import BASELINES
from models.normalization import Normalization


@pytest.mark.parametrize("name", list(BASELINES))
def test_the_listed_facts_hold(name: str) -> None:
    backbone = BACKBONES.get(name)
    extractor = build_without_memory(backbone.build)
    for size in (backbone.min_size, 224):
        features = extractor(torch.empty(2, 3, size, size, device="meta"))
        assert features.ndim == 4
        assert features.shape[:2] == (2, backbone.channels)
    if name == "efficientnet_lite0":  # whose weights come from a package
        return
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    assert isinstance(backbone.weights, Published)
    assert backbone.weights.url == published.url
    same = backbone.weights.normalization == Normalization(
        tuple(published.transforms().mean), tuple(published.transforms().std)
    )
    assert same == (name not in ("googlenet", "inception_v3"))


def test_inception_takes_75_pixels_and_no_fewer() -> None:
    extractor = build_without_memory(BACKBONES.get("inception_v3").build)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        extractor(torch.empty(2, 3, 74, 74, device="meta"))


def full_model_features(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """What torchvision's own model feeds its pooling, by a hook, and what the stripped one gives."""
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    extractor = BACKBONES.get(f"torchvision:{name}").build().eval()
    extractor.load_state_dict(
        {key: value for key, value in model.state_dict().items() if key in extractor.state_dict()}
    )
    seen: list[Tensor] = []
    entered = {
        "squeezenet1_1": "classifier",
        "vit_b_16": "heads",
        "mobilenet_v2": "classifier",
        "shufflenet_v2_x0_5": "fc",
        "mnasnet0_5": "classifier",
        "densenet121": "classifier",
        "maxvit_t": "classifier",
    }.get(name, "avgpool")
    model.get_submodule(entered).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images)
        return seen[0], extractor(images)


@pytest.mark.parametrize(
    "name", ["densenet121", "googlenet", "mobilenet_v2", "mnasnet0_5", "shufflenet_v2_x0_5", "regnet_y_400mf", "swin_t"]
)
def test_features_are_those_of_torchvisions_own_model(name: str) -> None:
    theirs, ours = full_model_features(name, torch.randn(2, 3, 64, 64))
    if theirs.ndim == 2:  # the models that pool inside `forward` hand their classifier the pooled map
        ours = ours.mean((2, 3))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_class_token_is_torchvisions_own_at_224() -> None:
    theirs, ours = full_model_features("vit_b_16", torch.randn(1, 3, 224, 224))
    torch.testing.assert_close(ours[:, :, 0, 0], theirs, rtol=1e-4, atol=1e-5)


def test_position_embeddings_are_resampled_the_way_of_torchvision() -> None:
    model = torchvision.models.VisionTransformer(64, 16, 1, 2, 8, 8)
    nn.init.normal_(model.encoder.pos_embedding)
    extractor = TransformerExtractor(model)
    state = {"encoder.pos_embedding": model.encoder.pos_embedding.detach()}
    theirs = torchvision.models.vision_transformer.interpolate_embeddings(96, 16, state)["encoder.pos_embedding"]
    torch.testing.assert_close(extractor._positions(6, 6), theirs)
    assert extractor(torch.rand(2, 3, 96, 32)).shape == (2, 8, 1, 1)


@pytest.mark.parametrize(
    ("name", "requested", "size", "said"),
    [
        ("mobilenet_v2", 64, 64, ""),
        ("inception_v3", 64, 75, "at least 75 px"),
        ("vit_b_16", 100, 112, "a multiple of 16 px"),
        ("torchvision:maxvit_t", 64, 224, "224 px only"),
        ("torchvision:maxvit_t", 256, 224, "224 px only"),
    ],
)
def test_sizes_that_a_backbone_cannot_take_are_changed_and_said(
    name: str, requested: int, size: int, said: str
) -> None:
    given, note = effective_size(name, requested)
    assert given == size
    assert said in note
    assert bool(note) == (size != requested)
    assert effective_size(BACKBONES.get(name), requested) == (given, note)


@pytest.mark.parametrize(("name", "channels"), [("resnet34", 512), ("efficientnet_v2_s", 1280), ("alexnet", 256)])
def test_any_classification_model_of_torchvision(name: str, channels: int) -> None:
    backbone = BACKBONES.get(f"torchvision:{name}")
    assert backbone.channels == channels
    side = backbone.min_size
    assert build_without_memory(backbone.build)(torch.empty(2, 3, side, side, device="meta")).shape[1] == channels


# Its 645 million weights take a third of the time of all 80 models.
HUGE = "regnet_y_128gf"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name == HUGE))
        for name in torchvision.models.list_models(module=torchvision.models)
    ],
)
def test_every_classification_model_of_torchvision(name: str) -> None:
    backbone = BACKBONES.get(f"torchvision:{name}")
    assert backbone.channels > 0
    assert backbone.weights


@pytest.mark.parametrize(("name", "message"), [("resnet19", "resnet1"), ("fcn_resnet50", "no classification model")])
def test_torchvision_names_that_will_not_do(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        BACKBONES.get(f"torchvision:{name}")


def test_a_model_without_a_map_cannot_be_a_backbone() -> None:
    with pytest.raises(UserError, match=r"flat cannot be a backbone: .* no feature map"):
        probe(lambda: nn.Flatten(), "flat")


def test_bounds_of_a_backbone_are_found() -> None:
    class Picky(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if not 64 <= images.shape[-1] <= 256:
                raise ValueError("no")
            return images

    found = probe(Picky, "picky")
    assert (found.channels, found.min_size, found.max_size) == (3, 64, 256)
    picky = Backbone("picky", 3, Picky, found.min_size, found.max_size)
    assert effective_size(picky, 300) == (256, effective_size(picky, 300)[1])


@pytest.mark.parametrize(("name", "shape"), [("test_resnet", (2, 96, 5, 5)), ("test_vit", (2, 64, 1, 1))])
def test_timm_features_become_a_map(name: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.get(f"timm:{name}")
    features = backbone.build().eval()(torch.rand(2, 3, 160, 160))
    assert features.shape == shape
    assert backbone.channels == shape[1]
    assert isinstance(backbone.weights, backbones.Published)


def test_timm_maps_with_channels_last_are_permuted() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.get("timm:swin_tiny_patch4_window7_224")
    assert (backbone.min_size, backbone.max_size) == (224, 224)
    assert build_without_memory(backbone.build)(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 768, 7, 7)


def test_unknown_timm_names_offer_near_ones() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UnknownName, match=r"no model called 'resnet17'; did you mean"):
        BACKBONES.get("timm:resnet17")


def test_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    backbones.timm_backbone.cache_clear()
    with pytest.raises(
        UserError, match=r"timm, which is not installed: python -m pip install 'deepmedix-bench\[timm\]'"
    ):
        BACKBONES.get("timm:resnet18")
