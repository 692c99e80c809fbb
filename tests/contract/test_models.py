"""What every registered model must do, at the smallest image that it takes and with three classes."""

from __future__ import annotations

import pytest
import torch

from models.backbones.registry import BACKBONES, effective_size
from models.registry import MODELS

NAMES = [*MODELS.names(), "deepmedix@resnet18", "deepmedix-gmp@squeezenet1_1", "linear@shufflenet_v2_x1_0"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_keeps_the_contract(name: str) -> None:
    spec = MODELS.get(name)
    backbone = BACKBONES.get(spec.backbone)
    size, _ = effective_size(backbone, 1)
    torch.manual_seed(0)
    network = spec.build(3)
    images = torch.randn(4, 3, size, size)

    feature_map = network.features(images)
    assert feature_map.ndim == 4
    assert feature_map.shape[:2] == (4, backbone.channels)

    logits = network.freeze_backbone().train()(images)
    assert logits.shape == (4, 3)
    assert torch.isfinite(logits).all()

    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    gradients = [parameter.grad for parameter in network.head.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)

    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("vgg19", "vit_b_16")])
def test_one_seed_gives_one_network(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(MODELS.get(name).build(3).state_dict())
        torch.rand(5)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
