"""Batches of one epoch: their order, augmentation and normalization are functions of seeds, not of history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.identity import derive_seed
from bench.data.images.augment import Augmentation, augment
from bench.data.loader import Part
from models.network import Normalization

EVALUATION_BATCH = 64


def pieces_of(size: int, wanted: int) -> int:
    """In how many pieces a batch of `size` images is computed where `wanted` are asked for.

    A piece has two images at least: BatchNorm has no variance of one alone, where the map is a single pixel.
    """
    return max(1, min(wanted, size // 2))


def has_batch_norm(module: nn.Module) -> bool:
    """Whether any layer keeps running statistics."""
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def pieces_notes(size: int, pieces: int, batch_norm: bool) -> list[str]:
    """What a reader must know of batches computed in pieces; nothing where they stayed whole.

    Args:
        size: images in a batch.
        batch_norm: whether the trained module has a BatchNorm that takes its statistics from what it is given.
    """
    if pieces == 1:
        return []
    note = f"each batch of {size} images computed in {pieces} pieces, their gradients added up"
    return [f"{note}; BatchNorm took its statistics from the pieces, not from the whole batch" if batch_norm else note]


@dataclass(frozen=True)
class Preparation:
    """How stored inputs become a network's: images are scaled and normalized, feature maps pass as they are.

    Attributes:
        kind: which augmentation, a kind of image's or one of its own name; None for none.
    """

    normalization: Normalization
    kind: Augmentation | None
    device: torch.device
    channels_last: bool

    def __call__(self, stored: np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """Uint8 [B, H, W, 3] to float32 [B, 3, H, W]; float maps [B, C, h, w] are only moved to the device."""
        tensor = torch.as_tensor(np.require(stored, requirements="W"), device=self.device)
        if tensor.dtype != torch.uint8:
            return tensor
        # NHWC storage seen as NCHW is the channels_last format already: no copy.
        pixels = tensor.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        if generator is not None and self.kind:
            pixels = augment(pixels, self.kind, generator)
        pixels = self.normalization(pixels)
        return pixels.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


@dataclass(frozen=True)
class TrainBatches:
    """The training batches of one epoch, shuffled and augmented; the last incomplete one is dropped.

    Args:
        seed: of the data, without the epoch.
        parts: in how many micro-batches a batch is given out (gradient accumulation).
        balanced: draw with replacement, each class as often as every other, instead of each image once.
    """

    part: Part
    prepare: Preparation
    batch_size: int
    seed: int
    epoch: int
    parts: int = 1
    balanced: bool = False

    def __len__(self) -> int:
        return max(1, len(self.part) // self.batch_size) * self.parts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draws = np.random.default_rng(derive_seed(self.seed, "order", self.epoch))
        order = balanced_order(self.part.labels, draws) if self.balanced else draws.permutation(len(self.part))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", self.epoch))
        views = np.random.default_rng(derive_seed(self.seed, "views", self.epoch))
        whole = len(self) // self.parts
        for batch in range(whole):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            for micro in np.array_split(chosen, self.parts):
                labels = torch.from_numpy(self.part.labels[micro]).to(self.prepare.device)
                yield self.prepare(self.part.gather_any_view(micro, views), generator), labels


def balanced_order(labels: NDArray[np.int64], draws: np.random.Generator) -> NDArray[np.int64]:
    """As many positions as there are labels, drawn with replacement, every class that is there equally often."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    chances = 1.0 / (len(counts) * counts[inverse])
    return draws.choice(len(labels), size=len(labels), p=chances)


@dataclass(frozen=True)
class EvalBatches:
    """A part in its own order, without augmentation, nothing dropped."""

    part: Part
    prepare: Preparation
    batch_size: int = EVALUATION_BATCH

    def __len__(self) -> int:
        return -(-len(self.part) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.part), self.batch_size):
            positions = np.arange(start, min(start + self.batch_size, len(self.part)))
            labels = torch.from_numpy(self.part.labels[positions]).to(self.prepare.device)
            yield self.prepare(self.part.gather(positions)), labels
