"""What an algorithm's client side is given in a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from federated.client.gradients import ClientData, Correction, Plain, proximal
from federated.client.training import Work, first_epoch
from federated.transport.packing import Packing, Vector
from federated.transport.wire import Arrays


@dataclass(frozen=True)
class LocalRound:
    """A client's round, its module holding the round's model.

    Attributes:
        module: what is trained.
        known: the round's weights [P]; `shared`: what came beside them.
        memory: what the client remembered in the last round in which it took part.
        seed: the client's own; `steps`: how many it takes.
        micro_batches: in how many pieces a batch's gradient is computed.
    """

    module: nn.Module
    packing: Packing
    data: ClientData
    work: Work
    known: Vector
    shared: Vector
    memory: Arrays
    seed: int
    steps: int
    micro_batches: int = 1

    @cached_property
    def parameters(self) -> list[Tensor]:
        """Every parameter that learns, in the module's order: that of the gradients."""
        return [p for p in self.module.parameters() if p.requires_grad]

    @property
    def first_epoch(self) -> int:
        """Number of the round's first epoch over the client's data."""
        return first_epoch(self.work, self.data)

    def plain(self) -> Plain:
        """The gradient of a batch's mean cross-entropy."""
        return Plain(self.module, self.parameters, self.micro_batches)

    def pull(self, mu: float, anchor: Vector | None = None) -> Correction | None:
        """Adds mu (w - anchor) on the travelling parameters; None at mu = 0.

        Args:
            anchor: vector [P]; the round's weights where none is given.
        """
        if mu == 0:
            return None
        start = self.known if anchor is None else anchor
        return self._travelling(proximal(self.packing.trainable, self.split(start), mu))

    def adding(self, vector: Vector) -> Correction:
        """Adds a vector [P] to the gradients of the travelling parameters."""
        pieces = self.split(vector)

        def add(gradients: list[Tensor]) -> None:
            for gradient, value in zip(gradients, pieces, strict=True):
                gradient.add_(value)

        return self._travelling(add)

    def split(self, vector: Vector) -> list[Tensor]:
        """A vector [P] as tensors like the travelling parameters, on their device."""
        tensors = self.packing.trainable
        pieces = np.split(np.asarray(vector, np.float32), np.cumsum([tensor.numel() for tensor in tensors])[:-1])
        return [
            torch.from_numpy(piece.copy()).view(tensor.shape).to(tensor.device)
            for piece, tensor in zip(pieces, tensors, strict=True)
        ]

    def positions(self, tensors: Sequence[Tensor]) -> list[int]:
        """Where given parameters stand among the gradients."""
        index = {id(parameter): position for position, parameter in enumerate(self.parameters)}
        return [index[id(tensor)] for tensor in tensors]

    def _travelling(self, correction: Correction) -> Correction:
        order = self.positions(self.packing.trainable)

        @torch.no_grad()
        def correct(gradients: list[Tensor]) -> None:
            correction([gradients[position] for position in order])

        return correct
