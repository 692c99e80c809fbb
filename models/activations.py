"""Activations that can take the place of a network's own: the switch behind `MODEL+ACTIVATION`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConvolution
from torchvision.models.inception import BasicConv2d as InceptionConvolution
from torchvision.models.resnet import BasicBlock, Bottleneck

from bench.core.errors import UserError
from bench.core.registry import Registry
from models.backbones.extractors import ConvolutionalExtractor

# What counts as a network's own activation. Gates (sigmoids) and the softmax of an attention are none: they scale.
_OWN = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish,
)  # fmt: skip


class PFpM(nn.Module):
    """Parametric Flatten-p Mish: mish(z) + p for z >= 0 and p for z < 0, with p trained.

    Mondal and Shrivastava, Computers in Biology and Medicine 150 (2022) 106183.

    Args:
        channels: how many p there are, one for each channel of [N, channels, ...]; 1 is one for the layer.
        start: where p starts. Public copies start it at 0 or at 1.
    """

    def __init__(self, channels: int = 1, start: float = 0.0) -> None:
        super().__init__()
        self.start = start
        self.p = nn.Parameter(torch.full((channels,), start))

    def forward(self, values: Tensor) -> Tensor:
        """Map z [N, C, ...] to the same shape and type; p is added in its own precision, gradient included."""
        p = self.p.view(-1, *[1] * (values.ndim - 2))
        # In half precision the gradient of p, a sum over the whole map, would overflow; so it is summed in p's type.
        curved = F.mish(F.relu(values)).to(torch.promote_types(values.dtype, p.dtype))
        return (curved + p).to(values.dtype)

    def extra_repr(self) -> str:
        """The number of p and their start, which a cache of feature maps must see."""
        return f"{len(self.p)}, start={self.start:g}"


@dataclass(frozen=True)
class ActivationSpec:
    """An activation by name.

    Attributes:
        make: the layer for a number of channels, which those without parameters for each channel ignore.
        by_channel: whether `make` needs the number of channels that it will stand behind.
    """

    name: str
    summary: str
    make: Callable[[int], nn.Module]
    by_channel: bool = False


ACTIVATIONS: Registry[ActivationSpec] = Registry(
    "activation", "bench.activations", listing="bench models list", kind=ActivationSpec
)
for _spec in (
    ActivationSpec("pfpm", "mish(relu(z)) + p, one trained p a layer, from 0", lambda channels: PFpM()),
    ActivationSpec("pfpm-one", "the same, p from 1", lambda channels: PFpM(start=1.0)),
    ActivationSpec("pfpm-neuron", "the same, one p a channel, from 0", PFpM, by_channel=True),
    ActivationSpec("pfpm-neuron-one", "the same, one p a channel, from 1", partial(PFpM, start=1.0), by_channel=True),
    ActivationSpec("mish", "z tanh(softplus(z))", lambda channels: nn.Mish()),
    ActivationSpec("relu", "max(z, 0)", lambda channels: nn.ReLU()),
    ActivationSpec("silu", "z sigmoid(z)", lambda channels: nn.SiLU()),
):
    ACTIVATIONS.register(_spec.name, _spec)


def swap_activations(network: nn.Module, spec: ActivationSpec, image_size: int) -> int:
    """Put an activation in the place of every one of a network's own, in place; weights keep their names.

    Every layer gets one of its own. torchvision's residual blocks, which call one layer two or three times, and its
    networks that call functions instead of layers (GoogLeNet, Inception-v3, DenseNet's last one) are rebuilt for it.

    Args:
        network: images [N, 3, H, W] to logits.
        image_size: a side that the network accepts, in pixels.

    Returns:
        How many layers were put in.

    Raises:
        UserError: the network has no activation layer, or one whose channels are not at dimension 1.
    """
    _rebuild(network)
    places = list(_places(network))
    if not places:
        raise UserError(f"the network has no activation layer that +{spec.name} could replace; choose another model")
    channels = _channels(network, places, image_size, spec.name) if spec.by_channel else {}
    for name in places:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, spec.make(channels.get(name, 1)))
    return len(places)


def _places(network: nn.Module) -> Iterator[str]:
    """Names of all the places with an activation, a layer that stands in two of them twice."""
    for name, layer in network.named_modules(remove_duplicate=False):
        if isinstance(layer, _OWN):
            yield name


def _channels(network: nn.Module, places: list[str], image_size: int, activation: str) -> dict[str, int]:
    """The channels at each place, from a pass without values."""
    twin = copy.deepcopy(network).to("meta").eval()
    found: dict[str, int] = {}
    for name in places:
        parent, _, last = name.rpartition(".")
        setattr(twin.get_submodule(parent), last, _Watch(name, found))
    with torch.no_grad():
        twin(torch.empty(2, 3, image_size, image_size, device="meta"))
    if missing := [name for name in places if name not in found]:
        raise UserError(
            f"+{activation} needs maps [N, C, h, w] or vectors [N, C] at every activation, and {missing[0]} has "
            f"none; take the form with one parameter a layer, +{activation.replace('-neuron', '')}"
        )
    return found


class _Watch(nn.Module):
    """Notes the channels that come through a place."""

    def __init__(self, name: str, found: dict[str, int]) -> None:
        super().__init__()
        self._name, self._found = name, found

    def forward(self, values: Tensor) -> Tensor:
        if values.ndim in (2, 4):
            self._found[self._name] = values.shape[1]
        return values


def _rebuild(network: nn.Module) -> None:
    """Give layers of their own to the activations that torchvision writes as functions or calls more than once."""
    for name, module in list(network.named_modules()):
        rebuilt = _rebuilt(module)
        if rebuilt is not None:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, rebuilt)
        if isinstance(module, ConvolutionalExtractor) and module.final_relu:
            module.use_final_layer(nn.ReLU())


def _rebuilt(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (BasicBlock, Bottleneck)):
        return _Residual(module)
    if isinstance(module, (GoogLeNetConvolution, InceptionConvolution)):
        return _Convolution(module)
    return None


class _Residual(nn.Module):
    """A residual block of torchvision's ResNets with an activation layer at every place where it calls its one."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts = {name: part for name, part in block.named_children() if name != "relu"}
        for name, part in parts.items():
            self.add_module(name, part)
        self.downsample = block.downsample
        self._count = sum(name.startswith("conv") for name in parts)
        self.activations = nn.ModuleList(nn.ReLU() for _ in range(self._count))

    def forward(self, values: Tensor) -> Tensor:
        kept = values if self.downsample is None else self.downsample(values)  # type: ignore[operator]
        for number, activation in enumerate(self.activations, start=1):
            values = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(values))
            values = activation(values + kept if number == self._count else values)
        return values


class _Convolution(nn.Module):
    """torchvision's convolution, BatchNorm and ReLU of GoogLeNet and Inception-v3, the last one a layer."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn = block.conv, block.bn
        self.activation = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.activation(self.bn(self.conv(values)))  # type: ignore[operator]
        return result
