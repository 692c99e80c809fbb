"""PFpM, and putting an activation in the place of a network's own."""

from __future__ import annotations

from math import exp, log, tanh

import pytest
import torch
from torch import nn

from bench.core.errors import UnknownName, UserError
from models.activations import ACTIVATIONS, PFpM, swap_activations
from models.network import Network
from models.registry import MODELS


def build(name: str) -> Network:
    torch.manual_seed(3)
    return MODELS.get(name).build(3).eval()


def test_pfpm_is_mish_and_p_above_zero_and_p_below() -> None:
    layer = PFpM(start=0.25)
    mish = 2 * tanh(log(1 + exp(2)))
    assert layer(torch.tensor([[2.0, 0.0, -3.0]])).tolist()[0] == pytest.approx([mish + 0.25, 0.25, 0.25])


def test_pfpm_for_each_channel_adds_the_channels_own_p() -> None:
    layer = PFpM(channels=2)
    layer.p.data = torch.tensor([1.0, 5.0])
    assert layer(torch.full((1, 2, 1, 1), -1.0)).flatten().tolist() == [1.0, 5.0]
    assert layer(torch.full((3, 2), -1.0)).tolist() == [[1.0, 5.0]] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_pfpms_gradient_is_the_numerical_one(channels: int) -> None:
    layer = PFpM(channels, 0.3).double()
    values = torch.tensor([-2.0, -0.5, 0.4, 1.5, 3.0, 20.0], dtype=torch.float64).view(2, 3, 1, 1).requires_grad_()

    def answer(values: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"p": p}, (values,))

    assert torch.autograd.gradcheck(answer, (values, layer.p))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_pfpm_keeps_half_precision_and_sums_its_gradient_beyond_it(kind: torch.dtype) -> None:
    """A map of 90,000 elements: the sum of its gradients is beyond float16, whose largest number is 65,504."""
    layer = PFpM()
    values = torch.full((1, 1, 300, 300), -1.0, dtype=kind)
    answer = layer(values)
    assert answer.dtype == kind
    answer.backward(torch.ones_like(answer))
    assert layer.p.grad is not None
    assert layer.p.grad.item() == 90_000
    assert layer(torch.tensor([[60_000.0]], dtype=torch.float16)).item() == 60_000


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "inception_v3", "googlenet", "densenet121", "mobilenet_v2"])
def test_relu_in_the_place_of_relu_changes_nothing(name: str) -> None:
    """Networks whose ReLUs are functions, or called twice, are rebuilt for the swap."""
    plain, swapped = build(name), build(f"{name}+relu")
    images = torch.randn(2, 3, 96, 96)
    plain_state, swapped_state = plain.state_dict(), swapped.state_dict()
    assert plain_state.keys() == swapped_state.keys()
    with torch.no_grad():
        difference = plain(images) - swapped(images)
    # MobileNetV2's are bounded at six, which these small activations do not reach.
    assert difference.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "places"),
    [("resnet18", 17), ("resnet50", 49), ("mobilenet_v2", 35), ("densenet121", 121), ("googlenet", 57), ("vgg19", 18)],
)
def test_every_activation_gets_a_p_of_its_own(name: str, places: int) -> None:
    """ResNet-50: 3 in each of 16 blocks and one in the stem; DenseNet-121: 2 in each of 58, 1 + 3 + 1 besides."""
    layers = [layer for layer in build(f"{name}+pfpm").modules() if isinstance(layer, PFpM)]
    assert len(layers) == places
    assert sum(len(layer.p) for layer in layers) == places
    assert not [layer for layer in build(f"{name}+pfpm").modules() if isinstance(layer, (nn.ReLU, nn.ReLU6))]


def test_one_p_a_channel_is_as_many_as_its_convolution_gives() -> None:
    stem = build("resnet18+pfpm-neuron-one").backbone.get_submodule("relu")
    assert isinstance(stem, PFpM)
    assert stem.p.tolist() == [1.0] * 64


def test_a_swapped_model_starts_from_the_same_weights() -> None:
    plain, swapped = build("deepmedix").state_dict(), build("deepmedix+pfpm").state_dict()
    assert {name for name in swapped if name not in plain} == {name for name in swapped if name.endswith(".p")}
    assert all(torch.equal(value, swapped[name]) for name, value in plain.items())


def test_a_swapped_model_is_another_cell_and_a_plain_one_the_old() -> None:
    plain = MODELS.get("mobilenet_v2").identity()
    assert "activation" not in plain
    assert MODELS.get("mobilenet_v2+pfpm").identity() == {**plain, "name": "mobilenet_v2+pfpm", "activation": "pfpm"}


def test_a_swap_combines_with_a_head_on_a_backbone() -> None:
    spec = MODELS.get("deepmedix@resnet18+pfpm")
    assert (spec.backbone, spec.head, spec.activation) == ("resnet18", MODELS.get("deepmedix").head, "pfpm")
    assert MODELS.match("vgg19+mish") == ["vgg19+mish"]


def test_what_cannot_be_swapped_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"no activation is called 'pfpn'; did you mean pfpm"):
        MODELS.get("mobilenet_v2+pfpn")
    with pytest.raises(UserError, match=r"pfpm-vgg19 has the activation pfpm already"):
        MODELS.get("pfpm-vgg19+mish")
    with pytest.raises(UserError, match=r"no activation layer that \+mish could replace"):
        swap_activations(nn.Sequential(nn.Linear(2, 2)), ACTIVATIONS.get("mish"), 32)
    with pytest.raises(UserError, match=r"needs maps .* take the form with one parameter a layer, \+pfpm$"):
        MODELS.get("vit_b_16+pfpm-neuron").build(2)
