"""What a client computes (algorithm 1, 2b): SGD or SVRG on its own images, FedProx's and SCAFFOLD's corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.identity import derive_seed
from federated.packing import freeze_statistics

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

    def train(self, epoch: int) -> Batches:
        """Shuffled, augmented batches of one epoch."""
        ...

    def whole(self, epoch: int) -> Batches:
        """Every training image once, augmented, nothing dropped: what a full gradient is taken over."""
        ...

    def val(self) -> Batches:
        """The client's own validation images."""
        ...


@dataclass(frozen=True)
class Work:
    """What the server asks of a client in a round; it travels as JSON.

    Attributes:
        round: from 1; `best_round` is the best so far, whose state a client does not forget.
        method: `sgd` or `svrg`.
        epochs: local passes; `steps` steps in their place where given.
        straggler_rate: chance that the client gets through a random part of its steps only.
        clip_norm, noise_multiplier: local differential privacy; 0 noise and an infinite norm mean none.
    """

    round: int
    seed: int
    best_round: int = 0
    method: str = "sgd"
    learning_rate: float = 0.1
    epochs: int = 1
    steps: int | None = None
    proximal_mu: float = 0.0
    scaffold: bool = False
    batch_norm: str = "average"
    straggler_rate: float = 0.0
    compression: str = "none"
    compression_ratio: float = 1.0
    clip_norm: float = math.inf
    noise_multiplier: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Every field, infinity as null, which JSON has not."""
        values = asdict(self)
        return {name: None if value == math.inf else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Work:
        """Undo `as_dict`. Raises TypeError for a field that this version does not know."""
        known = {field.name for field in fields(cls)}
        if unknown := values.keys() - known:
            raise TypeError(f"this version knows no {', '.join(sorted(unknown))}; use one version at every site")
        return cls(**{**values, "clip_norm": math.inf if values["clip_norm"] is None else values["clip_norm"]})


@dataclass(frozen=True)
class Progress:
    """Means over the images that were trained on, and the number of steps."""

    loss: float
    accuracy: float
    steps: int


def steps_of(work: Work, data: ClientData, partition: int) -> int:
    """How many steps this client takes in this round; a straggler takes a random part of them, at least one."""
    planned = work.steps if work.steps is not None else work.epochs * data.steps_per_epoch
    generator = torch.Generator().manual_seed(derive_seed(work.seed, "straggler", work.round, partition))
    late, share = torch.rand(2, generator=generator).tolist()
    return max(1, math.ceil(share * planned)) if late < work.straggler_rate else planned


def train(
    module: nn.Module, data: ClientData, work: Work, steps: int, seed: int, corrections: Sequence[Correction] = ()
) -> Progress:
    """Take `steps` steps in place; the same module, data and seeds give the same bits.

    Args:
        seed: of dropout; every local epoch starts its own stream, as the centralized fit does.
        corrections: each adds its term to the gradients of a step.
    """
    module.train()
    if work.batch_norm == "frozen":
        freeze_statistics(module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=work.learning_rate)
    first_epoch = (work.round - 1) * _epochs_a_round(work, data)
    gradient: _Gradient = _Plain(module, parameters)
    if work.method == "svrg":
        gradient = _VarianceReduced(module, parameters, data, first_epoch, derive_seed(seed, "svrg", work.round))
    tally = _Tally()
    for inputs, labels in _stream(data, first_epoch, steps, seed):
        gradients, loss, logits = gradient(inputs, labels)
        for correct in corrections:
            correct(gradients)
        for parameter, value in zip(parameters, gradients, strict=True):
            parameter.grad = value
        optimizer.step()
        tally.add(loss, logits, labels)
    optimizer.zero_grad(set_to_none=True)
    return tally.progress()


@torch.inference_mode()
def evaluate(module: nn.Module, batches: Batches) -> tuple[float, float, int]:
    """Mean loss, accuracy and number of images in evaluation mode; NaNs for no image."""
    module.eval()
    tally = _Tally()
    for inputs, labels in batches:
        logits = module(inputs)
        tally.add(F.cross_entropy(logits.float(), labels), logits, labels)
    progress = tally.progress()
    return progress.loss, progress.accuracy, tally.count


class _Tally:
    def __init__(self) -> None:
        self.loss, self.hits, self.count, self.steps = 0.0, 0, 0, 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += float(loss.detach()) * len(labels)
        self.hits += int((logits.detach().argmax(1) == labels).sum())
        self.count += len(labels)
        self.steps += 1

    def progress(self) -> Progress:
        if self.count == 0:
            return Progress(math.nan, math.nan, 0)
        return Progress(self.loss / self.count, self.hits / self.count, self.steps)


def _epochs_a_round(work: Work, data: ClientData) -> int:
    return work.epochs if work.steps is None else math.ceil(work.steps / data.steps_per_epoch)


def _stream(data: ClientData, epoch: int, steps: int, seed: int) -> Batches:
    taken = 0
    while taken < steps:
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        for batch in data.train(epoch):
            if taken == steps:
                return
            yield batch
            taken += 1
        epoch += 1


class _Plain:
    """The gradient of a batch's mean cross-entropy."""

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor]) -> None:
        self.module, self.parameters = module, parameters

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        logits = self.module(inputs)
        loss = F.cross_entropy(logits.float(), labels)
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        return [g.detach() for g in gradients], loss, logits


class _VarianceReduced(_Plain):
    """SVRG: grad_i(w) - grad_i(w_t) + grad(w_t), where w_t is the round's model.

    Both gradients of a step see the same network, or nothing is reduced: BatchNorm uses running statistics, which are
    brought up to date by one forward pass before, and dropout draws the same mask twice.
    """

    def __init__(
        self, module: nn.Module, parameters: Sequence[Tensor], data: ClientData, epoch: int, seed: int
    ) -> None:
        super().__init__(module, parameters)
        torch.manual_seed(seed)
        self._refresh_statistics(data.train(epoch))
        freeze_statistics(module)
        self.anchor = [p.detach().clone() for p in parameters]
        self.full = self._full_gradient(data.whole(epoch))

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Gradients, Tensor, Tensor]:
        state = _random_state(inputs.device)
        here, loss, logits = super().__call__(inputs, labels)
        _restore(state, inputs.device)
        self._exchange()
        there, _, _ = super().__call__(inputs, labels)
        self._exchange()
        return [a - b + c for a, b, c in zip(here, there, self.full, strict=True)], loss, logits

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


_Gradient = _Plain


def proximal(parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float) -> Correction:
    """FedProx's term mu * (w - w_t) on the travelling parameters, which come first among the gradients asked for."""

    @torch.no_grad()
    def correct(gradients: Gradients) -> None:
        for gradient, parameter, start in zip(gradients, parameters, anchor, strict=True):
            gradient.add_(parameter - start, alpha=mu)

    return correct


def control(difference: Sequence[Tensor]) -> Correction:
    """SCAFFOLD's term c - c_k."""

    @torch.no_grad()
    def correct(gradients: Gradients) -> None:
        for gradient, value in zip(gradients, difference, strict=True):
            gradient.add_(value)

    return correct


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
