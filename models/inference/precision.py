"""16 bits: for every forward pass of a module inside a block, and for good in a copy that is evaluated."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bench.measure.steps import AUTOCAST, autocast


@contextmanager
def computing_in(module: nn.Module, precision: str) -> Iterator[None]:
    """Inside the block every forward pass of a module runs under autocast; its parameters stay in 32 bits.

    Autocast keeps the rounded weights until it is left, so it is left after each pass: a step, or an exchange of the
    weights, between two passes would go unnoticed otherwise.

    Args:
        precision: "32" (nothing happens), "bf16" or "fp16".
    """
    entered: list[Any] = []

    def enter(_: nn.Module, given: tuple[Any, ...]) -> None:
        entered.append(autocast(given[0].device, precision))
        entered[-1].__enter__()

    def leave(*_: object) -> None:
        entered.pop().__exit__(None, None, None)

    if precision not in AUTOCAST:
        yield
        return
    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class SixteenBits(nn.Module):
    """A module to evaluate with, its weights rounded once: images in 32 bits in, maps in 32 bits out.

    Args:
        module: is copied. Normalizations keep their 32 bits, which autocast would give them too.
        precision: "bf16" or "fp16".
    """

    def __init__(self, module: nn.Module, precision: str) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)
        self.precision = precision
        for layer in self.module.modules():
            if isinstance(layer, (_ConvNd, nn.Linear)):
                layer.to(AUTOCAST[precision])

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to the map [N, C, h, w]."""
        with torch.no_grad(), autocast(images.device, self.precision):
            maps: Tensor = self.module(images)
        return maps.float()
