"""Gradients of a client's steps: plain and variance-reduced, and the pull to an anchor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.measure.seeding import seed_torch
from federated.transport.packing import freeze_statistics
from models.recipes.batches import pieces_of

Batches = Iterable[tuple[Tensor, Tensor]]
Gradients = list[Tensor]
Correction = Callable[[Gradients], None]


class ClientData(Protocol):
    """A client's images as batches; `train(epoch)` is a function of the epoch's number alone."""

    @property
    def n_train(self) -> int:
        """Training images."""
        ...

    @property
    def n_val(self) -> int:
        """Validation images."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        ...

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """The training images' labels."""
        ...

    def train(self, epoch: int) -> Batches:
        """Shuffled, augmented batches of one epoch."""
        ...

    def whole(self, epoch: int) -> Batches:
        """Every training image once (in each stored view), augmented, nothing dropped: a full gradient's images."""
        ...

    def val(self) -> Batches:
        """The client's own validation images."""
        ...


class Plain:
    """The gradient of a batch's mean cross-entropy.

    Args:
        micro_batches: in how many pieces a batch is computed, for want of memory; their gradients are added up in
            proportion to their images. BatchNorm in training mode takes its statistics from the pieces.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor], micro_batches: int = 1) -> None:
        self.module, self.parameters, self.micro_batches = module, parameters, micro_batches

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        """A batch's gradients, its mean loss and its logits [B, k]."""
        pieces = pieces_of(len(labels), self.micro_batches)
        if pieces == 1:
            return self._piece(inputs, labels)
        total, losses, found = [torch.zeros_like(p) for p in self.parameters], [], []
        for part, own in zip(inputs.tensor_split(pieces), labels.tensor_split(pieces), strict=True):
            gradients, loss, logits = self._piece(part, own)
            share = len(own) / len(labels)
            torch._foreach_add_(total, gradients, alpha=share)
            losses.append(loss.detach() * share)
            found.append(logits.detach())
        return total, torch.stack(losses).sum(), torch.cat(found)

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of images, a mean over them, and their logits [B, k]."""
        logits = self.module(inputs)
        return F.cross_entropy(logits.float(), labels), logits

    def _piece(self, inputs: Tensor, labels: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        loss, logits = self.forward(inputs, labels)
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return [g.detach() for g in gradients], loss, logits


class VarianceReduced(Plain):
    """SVRG: grad_i(w) - grad_i(w_t) + grad(w_t), where w_t is the round's model.

    Both gradients of a step see the same network, or nothing is reduced: BatchNorm uses running statistics, which are
    brought up to date by one forward pass before, and dropout draws the same mask twice.

    Args:
        bound: largest norm of a corrected gradient. With fixed statistics a BatchNorm whose running variance is near
            zero multiplies by hundreds as soon as its units wake; at the paper's rate of 0.1 training on real images
            diverged without it.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: Sequence[Tensor],
        data: ClientData,
        epoch: int,
        seed: int,
        bound: float = math.inf,
        micro_batches: int = 1,
    ) -> None:
        super().__init__(module, parameters, micro_batches)
        self.bound = bound
        seed_torch(seed)
        self._refresh_statistics(data.train(epoch))
        freeze_statistics(module)
        self.anchor = [p.detach().clone() for p in parameters]
        self.full = self._full_gradient(data.whole(epoch))

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        """A batch's corrected gradients, and the loss and logits [B, k] at the current weights."""
        state = _random_state(inputs.device)
        here, loss, logits = super().__call__(inputs, labels)
        _restore(state, inputs.device)
        self._exchange()
        there, _, _ = super().__call__(inputs, labels)
        self._exchange()
        corrected = [a - b + c for a, b, c in zip(here, there, self.full, strict=True)]
        return _at_most(corrected, self.bound), loss, logits

    @torch.no_grad()
    def _refresh_statistics(self, batches: Batches) -> None:
        for inputs, _ in batches:
            self.module(inputs)

    def _full_gradient(self, batches: Batches) -> Gradients:
        total, count = [torch.zeros_like(p) for p in self.parameters], 0
        for inputs, labels in batches:
            gradients, _, _ = super().__call__(inputs, labels)
            torch._foreach_add_(total, gradients, alpha=len(labels))
            count += len(labels)
        torch._foreach_div_(total, count)
        return total

    @torch.no_grad()
    def _exchange(self) -> None:
        for parameter, kept in zip(self.parameters, self.anchor, strict=True):
            parameter.data, kept.data = kept.data, parameter.data


def proximal(parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float) -> Correction:
    """The term mu * (w - anchor) of the given parameters."""

    @torch.no_grad()
    def correct(gradients: Gradients) -> None:
        for gradient, parameter, start in zip(gradients, parameters, anchor, strict=True):
            gradient.add_(parameter - start, alpha=mu)

    return correct


def _at_most(gradients: Gradients, bound: float) -> Gradients:
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)) if bound < math.inf else 0.0
    return [gradient * (bound / norm) for gradient in gradients] if norm > bound else gradients


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
