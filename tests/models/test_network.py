"""The network: freezing, normalization, memory format, and what fvcore sees of it."""

from __future__ import annotations

import copy

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from models.network import IMAGENET, UNIT, Network, Normalization
from models.registry import MODELS


def small(name: str = "deepmedix@squeezenet1_1") -> Network:
    torch.manual_seed(0)
    return MODELS.get(name).build(3)


def test_a_frozen_backbone_keeps_its_parameters_and_statistics() -> None:
    network = small("deepmedix@shufflenet_v2_x1_0").freeze_backbone().train()
    before = copy.deepcopy(network.backbone.state_dict())
    optimizer = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], lr=0.1)
    for _ in range(2):
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in network.backbone.state_dict().items())
    assert network.head.training
    assert not any(part.training for part in network.backbone.modules())


def test_frozen_features_carry_no_gradient_and_free_ones_do() -> None:
    network, images = small(), torch.randn(2, 3, 32, 32)
    assert network.features(images).requires_grad
    assert not network.freeze_backbone().features(images).requires_grad
    assert not network.features(images.clone().requires_grad_()).requires_grad
    assert network(images).requires_grad


def test_normalization_of_bytes_and_of_fractions() -> None:
    network = small()
    network.set_normalization(Normalization((0.5, 0.25, 0.0), (0.5, 0.25, 1.0)))
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([1.0, -1.0, 0.2]).view(1, 3, 1, 1)
    torch.testing.assert_close(network.normalize(pixels), expected)
    torch.testing.assert_close(network.normalize(pixels / 255), expected)
    torch.testing.assert_close(Normalization((0.5, 0.25, 0.0), (0.5, 0.25, 1.0))(pixels / 255), expected)
    torch.testing.assert_close(UNIT(pixels / 255), pixels / 255)


def test_the_state_is_backbone_and_head_alone() -> None:
    network = small()
    assert {name.split(".")[0] for name in network.state_dict()} == {"backbone", "head"}
    assert torch.equal(network.mean.flatten(), torch.tensor(IMAGENET.mean))


def test_channels_last_gives_the_same_logits() -> None:
    network, images = small().eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = network(images)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = network.features(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(network.head(features), plain, rtol=1e-4, atol=1e-5)
    assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "uncounted"), [("deepmedix", {}), ("deepmedix-gmp", {"aten::adaptive_max_pool2d": 1})]
)
def test_fvcore_counts_what_the_paper_counts(name: str, uncounted: dict[str, int]) -> None:
    analysis = FlopCountAnalysis(MODELS.get(name).build(4).eval(), torch.zeros(1, 3, 224, 224))
    analysis.unsupported_ops_warnings(False)
    counted = analysis.by_operator()
    assert counted["conv"] == 299_494_272
    assert counted["linear"] == 105_024
    assert counted["batch_norm"] == 13_356_448
    assert dict(analysis.unsupported_ops()) == {"aten::hardtanh_": 35, "aten::add": 10, **uncounted}
    assert not analysis.uncalled_modules()
