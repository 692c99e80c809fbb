"""The loss of the main recipe: cross-entropy, and what a protocol may change about it and about its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.core.config import Protocol


@dataclass(frozen=True)
class Mixed:
    """A batch of which every image is a mixture of two.

    Attributes:
        share: how much of each mixture is the image whose label is `labels`; the rest is that of `others`.
    """

    inputs: Tensor
    labels: Tensor
    others: Tensor
    share: float


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy of logits, with smoothed labels and weights for classes where the protocol asks for them.

    Attributes:
        smoothing: the share of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: float32 [k], of mean one over the training images; None for equal ones.
    """

    smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch of logits [B, k] and labels [B]."""
        if self.class_weights is None:
            return F.cross_entropy(logits.float(), labels, label_smoothing=self.smoothing)
        # Torch's own weighted mean divides by the batch's weights, so that a batch of one class would ignore them.
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=self.smoothing, reduction="none")
        return (losses * self.class_weights.to(logits.device)[labels]).mean()

    def of_mixture(self, logits: Tensor, mixed: Mixed) -> Tensor:
        """The mean over a mixed batch, each image counting by its share."""
        return mixed.share * self(logits, mixed.labels) + (1 - mixed.share) * self(logits, mixed.others)


def loss_of(protocol: Protocol, labels: NDArray[np.int64], classes: int) -> Loss:
    """A protocol's loss for training images with these labels.

    Args:
        protocol: says which loss.
        labels: class numbers of the training images [N].
        classes: width of the logits.
    """
    weights = balanced_weights(labels, classes) if protocol.class_balance == "loss" else None
    return Loss(protocol.label_smoothing, weights)


def balanced_weights(labels: NDArray[np.int64], classes: int) -> Tensor:
    """Weights [k] inverse to the classes' numbers of images, of mean one over the images; a class without any has 0."""
    counts = np.bincount(labels, minlength=classes)
    present = int((counts > 0).sum())
    weights = np.divide(len(labels), present * counts, out=np.zeros(classes), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)


def mix(inputs: Tensor, labels: Tensor, protocol: Protocol) -> Mixed:
    """Mix a batch [B, C, H, W] with itself in another order, by draws from torch's default generator.

    `mixup` (Zhang et al. 2018) adds the images up by a share from Beta(alpha, alpha); `cutmix` (Yun et al. 2019) pastes
    a rectangle of the other image's, whose area is one minus the share.

    Args:
        inputs: float [B, C, H, W].
        labels: class numbers [B].
        protocol: says which of the two, and its alpha.
    """
    alpha = torch.tensor(protocol.mix_alpha)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(labels)).to(labels.device)
    if protocol.mix == "mixup":
        return Mixed(share * inputs + (1 - share) * inputs[order], labels, labels[order], share)
    height, width = inputs.shape[2:]
    rows, columns = (_span(side, (1 - share) ** 0.5) for side in (height, width))
    pasted = inputs.clone()
    pasted[:, :, rows, columns] = inputs[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return Mixed(pasted, labels, labels[order], 1 - area)


def _span(side: int, share: float) -> slice:
    """A stretch of about a share of a side around a drawn centre, cut off at the borders."""
    centre, half = int(torch.randint(side, ())), round(side * share) // 2
    return slice(max(centre - half, 0), min(centre + half, side))


def averaged(average: Mapping[str, Tensor], module: nn.Module, step: int, decay: float) -> dict[str, Tensor]:
    """The exponential moving average of a module's state after an optimizer's step.

    In the first steps the decay is (1 + step) / (10 + step), as TensorFlow has it: a short fit would otherwise keep the
    weights that it started from. Counts are taken over as they are.

    Args:
        average: the average so far; empty before the first step.
        step: how many steps were taken before this one.
    """
    keep = min(decay, (1 + step) / (10 + step))
    return {
        name: torch.lerp(value.detach(), average[name], keep)
        if name in average and value.is_floating_point()
        else value.detach().clone()
        for name, value in module.state_dict().items()
    }


def rated_groups(module: nn.Module, rate: float, decay: float) -> list[dict[str, object]]:
    """Parameter groups whose rates fall from the head backwards, by a factor a block (Howard and Ruder 2018).

    A block is what stands under one name down to the first part of it that ends in a digit: `features.3`, `layer2`.
    The head is one block, and comes first: at the full rate.

    Args:
        module: whose parameters are grouped.
        rate: of the head.
        decay: the factor from a block to the one before it, 0 < decay <= 1.
    """
    blocks: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            blocks.setdefault(_block(name), []).append(parameter)
    ordered = list(reversed(blocks.values()))
    return [
        {"params": parameters, "lr": rate * decay**depth, "factor": decay**depth}
        for depth, parameters in enumerate(ordered)
    ]


def _block(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "head":
        return "head"
    end = next((number for number, part in enumerate(parts) if part[-1].isdigit()), 1)
    return ".".join(parts[: max(end, 1) + 1])
