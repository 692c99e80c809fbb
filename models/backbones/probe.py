"""What a feature extractor accepts and gives, found out on torch's meta device: shapes without values, in no time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bench.core.errors import UserError

_TRIED_SIZES = (32, 48, 64, 80, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)


@dataclass(frozen=True)
class Probe:
    """The channels of a feature map and the image sides that a feature extractor takes; max_size None is no bound."""

    channels: int
    min_size: int
    max_size: int | None


def build_without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module whose parameters have names and shapes but no values; torch's generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build().eval()
        except NotImplementedError:
            # RegNet computes its widths with tensors, whose values the meta device does not have.
            return build().to("meta").eval()


def probe(build: Callable[[], nn.Module], name: str) -> Probe:
    """Try a feature extractor on images of several sizes.

    Raises:
        UserError: when it makes no [N, C, h, w] map of any of them.
    """
    extractor = build_without_memory(build)
    tried = {size: _channels(extractor, size) for size in (_TRIED_SIZES[0], _TRIED_SIZES[-1])}
    if not all(tried.values()):
        tried = {size: _channels(extractor, size) for size in _TRIED_SIZES}
    sizes = [size for size, channels in tried.items() if channels]
    if not sizes:
        raise UserError(
            f"{name} cannot be a backbone: without its classifier it gives no feature map [N, C, h, w] "
            f"for images of {_TRIED_SIZES[0]} to {_TRIED_SIZES[-1]} px; choose another model"
        )
    max_size = None if sizes[-1] == _TRIED_SIZES[-1] else sizes[-1]
    return Probe(tried[sizes[0]], min(sizes), max_size)


@torch.no_grad()
def _channels(extractor: nn.Module, size: int) -> int:
    """Channels of the map that images of a size give; 0 when they are refused or give no map."""
    try:
        features = extractor(torch.empty(2, 3, size, size, device="meta"))
    # Models refuse a size by whatever comes first: an assertion, a convolution's error, a shape that does not fit.
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError, IndexError, ZeroDivisionError):
        return 0
    if getattr(features, "ndim", 0) != 4 or min(features.shape) < 1:
        return 0
    return int(features.shape[1])
