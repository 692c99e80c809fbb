"""Images from an update: gradient matching by cosine distance with total variation (Geiping et al. 2020).

The attacker is the server: it knows the network, the rate, the number of images and, to the attack's favour, their
labels (Zhao et al. 2020 read them off the last layer's bias at batch 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.analyses.inversion.settings import InversionSettings

DECAY, MILESTONES = 0.1, (3 / 8, 5 / 8, 7 / 8)
START = 0.1


Inputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Observed:
    """What the server has of one step.

    Attributes:
        gradient: the step's, by parameter, from the update and the rate.
        statistics: mean and variance of the batch in each BatchNorm layer, where running statistics were sent.
        labels: [B].
    """

    gradient: Sequence[Tensor]
    statistics: Sequence[tuple[Tensor, Tensor]]
    labels: Tensor


def reconstructed(
    network: nn.Module,
    observed: Observed,
    inputs: Inputs,
    shape: tuple[int, int, int],
    settings: InversionSettings,
    seed: int,
) -> Tensor:
    """The attacker's images [B, C, H, W], 0 to 1.

    Args:
        network: at the round's weights, in the mode in which the client trained.
        observed: what came of the step.
        inputs: pixels to the network's inputs [B, 3, H, W].
        shape: C, H, W; one channel where it is known that images are gray.
        settings: of the optimizer.
        seed: of the start.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.5 + START * torch.randn((len(observed.labels), *shape), generator=generator)
    pixels = pixels.clamp_(0, 1).requires_grad_()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([pixels], lr=settings.step_size)
    milestones = [int(settings.steps * share) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, DECAY)
    with _Watched(network) as watched:
        for _ in range(settings.steps):
            watched.clear()
            loss = F.cross_entropy(logits(network, inputs(pixels)), observed.labels)
            found = torch.autograd.grad(loss, parameters, create_graph=True)
            distance = cosine_distance(found, observed.gradient) + _apart(watched.statistics, observed.statistics)
            pixels.grad = torch.autograd.grad(distance + settings.variation * total_variation(pixels), pixels)[0]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
    return pixels.detach()


def logits(network: nn.Module, inputs: Tensor) -> Tensor:
    """The network's logits with a gradient to the images, which a forward of one with a frozen backbone stops."""
    found: Tensor = network.head(network.backbone(inputs))  # type: ignore[operator]
    return found


def cosine_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """1 - cos of two gradients, each taken as one long vector."""
    inner = torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
    norms = [torch.stack([a.square().sum() for a in each]).sum().sqrt() for each in (first, second)]
    return 1 - inner / (norms[0] * norms[1]).clamp_min(1e-12)


def total_variation(pixels: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across."""
    down, across = pixels[..., 1:, :] - pixels[..., :-1, :], pixels[..., 1:] - pixels[..., :-1]
    return down.abs().mean() + across.abs().mean()


def _apart(found: Sequence[tuple[Tensor, Tensor]], sent: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over layers of the statistics' squared distance, relative to what was sent."""
    if not sent:
        return torch.zeros(())
    pairs = [pair for one, two in zip(found, sent, strict=True) for pair in zip(one, two, strict=True)]
    return torch.stack([(a - b).square().sum() / b.square().sum().clamp_min(1e-12) for a, b in pairs]).mean()


class _Watched:
    """Mean and variance of each BatchNorm layer's inputs in a forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self.statistics: list[tuple[Tensor, Tensor]] = []
        layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
        self._handles = [layer.register_forward_pre_hook(self._note) for layer in layers]

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def clear(self) -> None:
        self.statistics = []

    def _note(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        self.statistics.append((values.mean(dim=1), values.var(dim=1)))


def features_of(gradient: Sequence[Tensor], names: Sequence[str]) -> np.ndarray | None:
    """What entered the last linear layer, exactly, of a batch of one image: dL/dW_i / dL/db_i of the largest row.

    Returns:
        None where no linear layer with a bias stands last.
    """
    if len(gradient) < 2 or gradient[-1].ndim != 1 or gradient[-2].ndim != 2 or not names[-1].endswith("bias"):
        return None
    row = int(gradient[-1].abs().argmax())
    found: np.ndarray = (gradient[-2][row] / gradient[-1][row]).numpy()
    return found


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images [B, C, H, W] from 0 to 1: [B]."""
    return -10 * torch.log10((images - truth).square().mean(dim=(1, 2, 3)).clamp_min(1e-12))
