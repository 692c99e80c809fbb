"""A network as flat float32 vectors: one of trainable parameters, one of BatchNorm buffers, counters left out.

One vector and not hundreds of arrays, because a deployed round of a packed network takes a third of the time; buffers
apart, because no server optimizer, clipping or noise may touch a running variance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Vector = NDArray[np.float32]


class Packing:
    """Reads and writes a module's travelling parts.

    Three lists of tensors: `trainable` (parameters that learn), `buffers` (floating buffers) and `personal` (what stays
    with the client: an algorithm's layers, and whole BatchNorm layers under the policy `personal`). They are disjoint,
    unless `personal` is a second model. Integer buffers (`num_batches_tracked`) and frozen parameters are in none: they
    never travel.

    Args:
        batch_norm: `average` (statistics travel), `personal` (whole BatchNorm layers are personal), `frozen`
            (statistics neither change nor travel), `group` (the module has no BatchNorm left).
        network: what the module is a part of, where only a part is trained; its rest never travels.
        own: names of further parameters and buffers that stay with the client.
        second_model: `personal` is a second model, everything that learns, and nothing stays behind for it.
    """

    def __init__(
        self,
        module: nn.Module,
        batch_norm: str = "average",
        network: nn.Module | None = None,
        own: AbstractSet[str] = frozenset(),
        second_model: bool = False,
    ) -> None:
        own = own | (_batch_norm_names(module) if batch_norm == "personal" else set())
        self.second_model = second_model
        learned = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        statistics = [(name, b) for name, b in module.named_buffers() if b.is_floating_point()]
        self.trainable = [p for name, p in learned if name not in own]
        self.personal = [t for name, t in [*learned, *statistics] if name in own or second_model]
        self.buffers = [] if batch_norm == "frozen" else [b for name, b in statistics if name not in own]
        self._counters = [b for _, b in module.named_buffers() if not b.is_floating_point()]
        travelling = {id(t) for t in [*self.trainable, *self.personal, *self.buffers]}
        self._resident = [t for _, t in _all_floating(network or module) if id(t) not in travelling]
        self.initial_personal = pack(self.personal)
        self._digest = ""

    def sizes(self) -> tuple[int, int, int]:
        """Numbers in the trainable, the buffer and the personal vector."""
        return _size(self.trainable), _size(self.buffers), _size(self.personal)

    def settle(self, weights: Vector, buffers: Vector) -> None:
        """Write the chosen model into the network, counters at zero.

        A counter tells how many batches went through this process, which differs with every kill and is no part of the
        model.

        Raises:
            ValueError: a vector of another length.
        """
        unpack(weights, self.trainable)
        unpack(buffers, self.buffers)
        for counter in self._counters:
            counter.zero_()

    def resident_digest(self) -> str:
        """SHA-256 of what never travels (frozen layers): the same at every site, or the federation makes no sense."""
        if not self._digest:
            self._digest = hashlib.sha256(pack(self._resident).tobytes()).hexdigest()
        return self._digest


def pack(tensors: Sequence[torch.Tensor]) -> Vector:
    """Concatenate tensors to one float32 vector on the CPU (empty for none)."""
    if not tensors:
        return np.empty(0, np.float32)
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    return flat.to("cpu", torch.float32).numpy()


@torch.no_grad()
def unpack(vector: Vector, tensors: Sequence[torch.Tensor]) -> None:
    """Write a vector back into the tensors it was packed from.

    Raises:
        ValueError: when the length is another.
    """
    if len(vector) != _size(tensors):
        raise ValueError(f"{len(vector)=} numbers do not fit tensors of {_size(tensors)}")
    start = 0
    for tensor in tensors:
        piece = np.array(vector[start : start + tensor.numel()], np.float32)
        tensor.copy_(torch.from_numpy(piece).view_as(tensor))
        start += tensor.numel()


def freeze_statistics(module: nn.Module) -> None:
    """Put every BatchNorm layer in evaluation mode: it uses its running statistics and leaves them alone."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


def parametric_layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that have parameters of their own, by name, in the module's order."""
    return [(name, layer) for name, layer in module.named_modules() if list(layer.parameters(recurse=False))]


def _batch_norm_names(module: nn.Module) -> set[str]:
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)}
    return {
        f"{name}.{part}" if name else part
        for name, layer in layers.items()
        for part, _ in [*layer.named_parameters(), *layer.named_buffers()]
    }


def _all_floating(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tensor) for name, tensor in tensors if tensor.is_floating_point()]


def _size(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
