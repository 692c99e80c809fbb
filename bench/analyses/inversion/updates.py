"""What a server has of one step of a client, under each protection: made by the clients' own code."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.analyses.inversion.attack import Observed
from bench.analyses.inversion.settings import InversionSettings
from bench.data.loader import Part
from federated.client.client import Client, FolderStore
from federated.client.gradients import Batches
from federated.client.training import Work
from federated.transport.packing import Packing, freeze_statistics, pack

MOMENTUM = 0.1  # torch's, of a running statistic


@dataclass(frozen=True)
class Step:
    """A client's step and what is known of it.

    Attributes:
        network: as it was before, in the mode in which the client trained: the attacker's copy.
        observed: what came.
        names: the parameters' names, in the order of the gradient.
    """

    network: nn.Module
    observed: Observed
    names: tuple[str, ...]


class _OneBatch:
    """A client's images, all of them one batch, in their order."""

    n_val, steps_per_epoch = 0, 1

    def __init__(self, part: Part, prepare: Any) -> None:
        self.n_train, self.train_labels = len(part), np.asarray(part.labels, np.int64)
        self._batch = prepare(part.gather(np.arange(len(part)))), torch.from_numpy(self.train_labels)

    def train(self, _: int) -> Batches:
        """The one batch, whatever the epoch."""
        return [self._batch]

    whole = train

    def val(self) -> Batches:
        """None."""
        return []


def observed_step(
    network: nn.Module,
    parts: list[Part],
    prepare: Any,
    protection: str,
    settings: InversionSettings,
    seed: int,
    folder: Path,
) -> Step:
    """One step of a client on a whole part, as it travels.

    Args:
        network: at the round's weights.
        parts: the victim's images, and those of the other clients that secure aggregation adds.
        prepare: pixels to inputs, without augmentation.
        protection: one of `PROTECTIONS`. Under "statistics kept" and "local DP" BatchNorm is frozen, and nothing of it
            travels; under "secure aggregation" the server has the clients' mean alone.
        settings: rate, clipping, noise.
        seed: of the noise.
        folder: for what clients remember, which is nothing.
    """
    policy = "average" if protection in ("none", "secure aggregation") else "frozen"
    private = protection == "local DP"
    work = Work(
        1,
        seed,
        learning_rate=settings.learning_rate,
        steps=1,
        batch_norm=policy,
        clip_norm=settings.clip_norm if private else np.inf,
        noise_multiplier=settings.noise_multiplier if private else 0.0,
    )
    asked = parts if protection == "secure aggregation" else parts[:1]
    trained = copy.deepcopy(network).requires_grad_(True)
    packing = Packing(trained, policy)
    known, statistics = pack(packing.trainable), pack(packing.buffers)
    sent = []
    for number, part in enumerate(asked):
        client = Client(trained, packing, _OneBatch(part, prepare), FolderStore(folder), number)
        sent.append(client.fit(work, {"weights": known, "buffers": statistics})[0])
    weights, buffers = (np.mean([each[name] for each in sent], axis=0) for name in ("weights", "buffers"))
    attackers = copy.deepcopy(network).requires_grad_(True).train()
    if policy == "frozen":
        freeze_statistics(attackers)
    names = tuple(name for name, _ in attackers.named_parameters())
    gradient = _like((known - weights) / settings.learning_rate, list(attackers.parameters()))
    pairs = _batch_statistics(buffers, statistics, attackers) if len(statistics) else []
    return Step(attackers, Observed(gradient, pairs, torch.from_numpy(parts[0].labels.copy())), names)


def _like(vector: NDArray[Any], tensors: list[Tensor]) -> list[Tensor]:
    pieces = np.split(vector.astype(np.float32), np.cumsum([tensor.numel() for tensor in tensors])[:-1])
    return [torch.from_numpy(piece.copy()).view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]


def _batch_statistics(after: NDArray[Any], before: NDArray[Any], network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of the batch by BatchNorm layer, solved out of the running ones."""
    buffers = [b for _, b in network.named_buffers() if b.is_floating_point()]
    batch = _like((after - (1 - MOMENTUM) * before) / MOMENTUM, buffers)
    by_name = {id(buffer): value for buffer, value in zip(buffers, batch, strict=True)}
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    return [(by_name[id(layer.running_mean)], by_name[id(layer.running_var)]) for layer in layers]
