"""The gradient of a loss with MOON's contrastive term."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from federated.client.gradients import Plain
from federated.transport.packing import pack, parametric_layers, unpack

if TYPE_CHECKING:
    from federated.client.local import LocalRound


class Contrastive(Plain):
    """Cross-entropy and `weight` times the contrastive term of what enters the module's last layer with parameters.

    Args:
        local: a round of a client that remembers its last model.
        weight: mu.
    """

    def __init__(self, local: LocalRound, weight: float, temperature: float) -> None:
        super().__init__(local.module, local.parameters, local.micro_batches)
        self._weight, self._temperature = weight, temperature
        now = pack(local.packing.trainable), pack(local.packing.buffers)
        self._shared = copy.deepcopy(local.module).eval()
        unpack(np.asarray(local.memory["previous"], np.float32), local.packing.trainable)
        unpack(np.asarray(local.memory["previous-buffers"], np.float32), local.packing.buffers)
        self._previous = copy.deepcopy(local.module).eval()
        unpack(now[0], local.packing.trainable)
        unpack(now[1], local.packing.buffers)

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the logits [B, k]."""
        logits, here = _with_representation(self.module, inputs)
        with torch.no_grad():
            shared, previous = (_with_representation(one, inputs)[1] for one in (self._shared, self._previous))
        term = contrast(here, shared, previous, self._temperature)
        return F.cross_entropy(logits.float(), labels) + self._weight * term, logits


def contrast(here: Tensor, shared: Tensor, previous: Tensor, temperature: float) -> Tensor:
    """Mean of -log(e^(s(z, z_t) / T) / (e^(s(z, z_t) / T) + e^(s(z, z_k) / T))) over representations [B, d].

    Args:
        here: representations z of the model in training [B, d].
        shared: z_t, of the global model [B, d].
        previous: z_k, of the client's own last model [B, d].
        temperature: T > 0.
    """
    near, far = (F.cosine_similarity(here, other, dim=1) / temperature for other in (shared, previous))
    return F.softplus(far - near).mean()


def _with_representation(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    caught: list[Tensor] = []
    _, last = parametric_layers(module)[-1]
    hook = last.register_forward_pre_hook(lambda _, given: caught.append(given[0].flatten(1).float()))
    try:
        logits = module(inputs)
    finally:
        hook.remove()
    return logits, caught[-1]
