"""Counted operations against numbers worked out by hand and the paper's 0.613 G."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.measure.cost import cost


def test_a_convolution_a_norm_and_a_linear_layer_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 5)
    )
    found = cost(network, 8)
    convolution, linear, norm = 8 * 8 * 4 * 27, 4 * 64 * 5, 2 * 4 * 64
    assert found.macs_m == pytest.approx((convolution + linear) / 1e6)
    assert found.flops_m == pytest.approx((2 * (convolution + linear) + norm) / 1e6)
    assert found.params_m == pytest.approx((4 * 27 + 8 + 256 * 5 + 5) / 1e6)
    assert found.activations_m == pytest.approx((4 * 64 + 5) / 1e6)
    assert found.by_operator["conv"] == convolution


def test_uncounted_operators_are_listed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Hardswish(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    found = cost(network, 4)
    assert found.uncounted["aten::hardswish"] == 1
    assert found.uncounted["aten::adaptive_max_pool2d"] == 1


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.flatten(2).transpose(1, 2).repeat(1, 1, 3)[..., :8]
        out: Tensor = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        return out


def test_attention_is_counted_too() -> None:
    """16 tokens of width 8: three projections in, one out, and two products of 16 x 16 x 8."""
    found = cost(Attention(), 4)
    assert found.macs_m * 1e6 == pytest.approx(4 * 16 * 8 * 8 + 2 * 16 * 16 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_leaves_the_network_and_the_random_state_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(32, 2))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    cost(network, 4)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert network[2].training
    assert not network[1].training


def test_mobilenet_v2_has_the_known_count() -> None:
    """299.5 M multiply-accumulates of the convolutions (torchvision's 0.3 G), and 13.356 M of normalization."""
    from torchvision.models import mobilenet_v2

    found = cost(mobilenet_v2(weights=None), 224)
    assert found.by_operator["conv"] == pytest.approx(299.494e6, rel=1e-5)
    assert found.by_operator["batch_norm"] == pytest.approx(13.356e6, rel=1e-4)


def test_deepmedix_reproduces_the_papers_flops() -> None:
    """0.613 G at 224 with four classes."""
    from models.registry import MODELS

    found = cost(MODELS.get("deepmedix").build(4), 224)
    assert found.flops_m == pytest.approx(613, rel=0.005)
    assert found.params_m == pytest.approx(2.329236)
