"""BatchNorm statistics for a backbone that is frozen with random weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NOTE = "random backbone, frozen; its BatchNorm statistics are those of training images"


@torch.no_grad()
def calibrate(backbone: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set every BatchNorm's running mean and variance to those of some batches of images [N, 3, H, W].

    As they are initialized (0 and 1), the activations of a random network in evaluation mode shrink to nothing from
    layer to layer, and a head on them learns nothing. Labels are not looked at.
    """
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    backbone.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # a cumulative mean over the batches
    for images, _ in batches:
        backbone(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def statistics(backbone: nn.Module) -> bytes:
    """Every running mean and variance, layer by layer, as little-endian float32; empty where there is none."""
    return b"".join(tensor.detach().cpu().numpy().astype("<f4").tobytes() for tensor in _running(backbone))


@torch.no_grad()
def put_statistics(backbone: nn.Module, values: bytes) -> None:
    """Undo `statistics`. Raises ValueError when there are more or fewer numbers than the backbone holds."""
    tensors = _running(backbone)
    numbers = torch.from_numpy(np.frombuffer(values, "<f4").astype(np.float32))
    if len(numbers) != sum(tensor.numel() for tensor in tensors):
        raise ValueError(f"{len(numbers)} statistics do not fit a backbone of {sum(t.numel() for t in tensors)}")
    start = 0
    for tensor in tensors:
        tensor.copy_(numbers[start : start + tensor.numel()])
        start += tensor.numel()


def _running(backbone: nn.Module) -> list[Tensor]:
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    return [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
