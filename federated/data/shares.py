"""A client's share of the images, and the files that tell a report who held what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.atomic import write_json
from bench.core.config import Federation
from bench.core.identity import derive_seed
from bench.data.loader import Part
from bench.store.layout import PARTITION
from federated.client.gradients import Batches
from federated.data.partitions import Division, divide, divide_alike
from models.recipes.batches import EVALUATION_BATCH, EvalBatches, Preparation, TrainBatches, pieces_notes, pieces_of
from models.recipes.context import FitContext


@dataclass(frozen=True)
class PartData:
    """The images of one client, batched as the centralized fit batches them.

    Attributes:
        seed: of the order and the augmentation.
    """

    train_part: Part
    val_part: Part
    prepare: Preparation
    batch_size: int
    seed: int

    @property
    def n_train(self) -> int:
        """Training images."""
        return len(self.train_part)

    @property
    def n_val(self) -> int:
        """Validation images."""
        return len(self.val_part)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch: a client with less than a batch has one of all its images."""
        return len(self.train(0))

    def train(self, epoch: int) -> TrainBatches:
        """Shuffled, augmented batches of one epoch."""
        size = min(self.batch_size, len(self.train_part))
        return TrainBatches(self.train_part, self.prepare, size, self.seed, epoch)

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """The training images' labels."""
        return np.asarray(self.train_part.labels, np.int64)

    def whole(self, epoch: int) -> Batches:
        """Every training image once, augmented; of stored maps every view, as the steps draw from them all."""
        return _Whole(self.train_part, self.prepare, derive_seed(self.seed, "whole", epoch))

    def val(self) -> Batches:
        """The validation images."""
        return EvalBatches(self.val_part, self.prepare)


@dataclass(frozen=True)
class _Whole:
    part: Part
    prepare: Preparation
    seed: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for part in (self.part, *(replace(self.part, inputs=view) for view in self.part.views)):
            for start in range(0, len(part), EVALUATION_BATCH):
                positions = np.arange(start, min(start + EVALUATION_BATCH, len(part)))
                labels = torch.from_numpy(part.labels[positions]).to(self.prepare.device)
                yield self.prepare(part.gather(positions), generator), labels


@dataclass(frozen=True)
class Shares:
    """Train and validation part of every client."""

    names: tuple[str, ...]
    train: tuple[Part, ...]
    val: tuple[Part, ...]
    division: Division
    seed: int

    def holders(self, part: Part) -> NDArray[np.str_]:
        """The client of each image of another part, the test set, which is dealt in the training part's shares."""
        alike = divide_alike(self.division, part.labels, part.groups, part.sites, seed=self.seed)
        names = np.empty(len(part), dtype=object)
        for name, images in zip(alike.names, alike.clients, strict=True):
            names[images] = name
        return names.astype(np.str_)


def share_out(train: Part, val: Part, federation: Federation, classes: int, seed: int) -> Shares:
    """Deal both parts to the clients. Raises UserError where the groups do not suffice.

    Args:
        train, val: the parts that are dealt.
        federation: how, and to how many.
        classes: of the dataset.
        seed: of the draws.
    """
    division = divide(
        train.labels,
        train.groups,
        train.sites,
        federation.partition,
        clients=federation.clients,
        classes=classes,
        alpha=federation.alpha,
        shards=federation.shards,
        seed=seed,
    )
    alike = divide_alike(division, val.labels, val.groups, val.sites, seed=seed)
    return Shares(division.names, _subsets(train, division), _subsets(val, alike), division, seed)


def in_pieces(context: FitContext, shares: Shares, batch_norm: bool) -> list[str]:
    """What a reader must know where clients compute their batches in pieces: of the client with the largest batches.

    Args:
        context: of the fit.
        shares: the clients' images.
        batch_norm: whether the trained part normalizes by batch, which pieces would change.
    """
    size = min(context.protocol.batch_size, max(len(part) for part in shares.train))
    return pieces_notes(size, pieces_of(size, context.micro_batches), batch_norm)


def write_partition(folder: Path, shares: Shares, classes: int, kind: str) -> None:
    """Write the picture's numbers: images by client and class of both parts.

    Args:
        folder: of the cell.
        shares: the clients' images.
        classes: of the dataset.
        kind: how they were dealt.
    """

    def table(parts: tuple[Part, ...]) -> list[list[int]]:
        return [np.bincount(part.labels, minlength=classes).tolist() for part in parts]

    about = {"partition": kind, "clients": list(shares.names), "train": table(shares.train), "val": table(shares.val)}
    write_json(folder / PARTITION, about)


def _subsets(part: Part, division: Division) -> tuple[Part, ...]:
    return tuple(part.subset(positions) for positions in division.clients)
