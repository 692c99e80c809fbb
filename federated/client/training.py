"""What a client computes (algorithm 1, 2b): steps of SGD on its own images, by an algorithm's gradients."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.identity import derive_seed
from bench.measure.seeding import seed_torch
from federated.client.gradients import Batches, ClientData, Correction, Plain
from federated.transport.packing import freeze_statistics


@dataclass(frozen=True)
class Work:
    """What the server asks of a client in a round; it travels as JSON.

    Attributes:
        round: from 1; `best_round` is the best so far, whose state a client does not forget.
        algorithm: its registered name, which every site must know; `settings` are those that it reads.
        epochs: local passes; `steps` steps in their place where given.
        straggler_rate: chance that the client gets through a random part of its steps only.
        clip_norm, noise_multiplier: local differential privacy; 0 noise and an infinite norm mean none.
    """

    round: int
    seed: int
    best_round: int = 0
    algorithm: str = "fedavg"
    settings: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.1
    epochs: int = 1
    steps: int | None = None
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
        known = {each.name for each in fields(cls)}
        if unknown := values.keys() - known:
            raise TypeError(f"this version knows no {', '.join(sorted(unknown))}; use one version at every site")
        norm = math.inf if values["clip_norm"] is None else values["clip_norm"]
        return cls(**{**values, "clip_norm": norm})


@dataclass(frozen=True)
class Progress:
    """Means over the images that were trained on, the number of steps and of those images, and what it took."""

    loss: float
    accuracy: float
    steps: int
    images: int
    seconds: float


def steps_of(work: Work, data: ClientData, partition: int) -> int:
    """How many steps this client takes in this round; a straggler takes a random part of them, at least one.

    Args:
        work: the round's settings.
        data: of the client.
        partition: the client's number, by which a straggler is drawn.
    """
    planned = work.steps if work.steps is not None else work.epochs * data.steps_per_epoch
    generator = torch.Generator().manual_seed(derive_seed(work.seed, "straggler", work.round, partition))
    late, share = torch.rand(2, generator=generator).tolist()
    return max(1, math.ceil(share * planned)) if late < work.straggler_rate else planned


def train(
    module: nn.Module,
    data: ClientData,
    work: Work,
    steps: int,
    seed: int,
    gradient: Callable[[], Plain] | None = None,
    correction: Correction | None = None,
    micro_batches: int = 1,
) -> Progress:
    """Take `steps` steps in place; the same module, data and seeds give the same bits.

    Args:
        seed: of dropout; every local epoch starts its own stream, as the centralized fit does.
        gradient: makes what computes a batch's gradient once the module is ready to train; the plain one by default.
        correction: adds its term to the gradients of a step.
        micro_batches: in how many pieces a batch's gradient is computed.
    """
    started = time.perf_counter()
    module.train()
    if work.batch_norm == "frozen":
        freeze_statistics(module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=work.learning_rate)
    compute = Plain(module, parameters, micro_batches) if gradient is None else gradient()
    tally = _Tally()
    for inputs, labels in _stream(data, first_epoch(work, data), steps, seed):
        gradients, loss, logits = compute(inputs, labels)
        if correction is not None:
            correction(gradients)
        for parameter, value in zip(parameters, gradients, strict=True):
            parameter.grad = value
        optimizer.step()
        tally.add(loss, logits, labels)
    optimizer.zero_grad(set_to_none=True)
    return tally.progress(started)


@torch.inference_mode()
def evaluate(module: nn.Module, batches: Batches) -> tuple[float, float, int]:
    """Mean loss, accuracy and number of images in evaluation mode; NaNs for no image."""
    module.eval()
    started, tally = time.perf_counter(), _Tally()
    for inputs, labels in batches:
        logits = module(inputs)
        tally.add(F.cross_entropy(logits.float(), labels), logits, labels)
    progress = tally.progress(started)
    return progress.loss, progress.accuracy, progress.images


class _Tally:
    def __init__(self) -> None:
        self.loss, self.hits, self.count, self.steps = 0.0, 0, 0, 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += float(loss.detach()) * len(labels)
        self.hits += int((logits.detach().argmax(1) == labels).sum())
        self.count += len(labels)
        self.steps += 1

    def progress(self, started: float) -> Progress:
        seconds = time.perf_counter() - started
        if self.count == 0:
            return Progress(math.nan, math.nan, 0, 0, seconds)
        return Progress(self.loss / self.count, self.hits / self.count, self.steps, self.count, seconds)


def first_epoch(work: Work, data: ClientData) -> int:
    """Number of the round's first epoch over the client's data."""
    a_round = work.epochs if work.steps is None else math.ceil(work.steps / data.steps_per_epoch)
    return (work.round - 1) * a_round


def _stream(data: ClientData, epoch: int, steps: int, seed: int) -> Batches:
    taken = 0
    while taken < steps:
        seed_torch(derive_seed(seed, "epoch", epoch))
        for batch in data.train(epoch):
            if taken == steps:
                return
            yield batch
            taken += 1
        epoch += 1
