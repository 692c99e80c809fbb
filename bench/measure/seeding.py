"""Torch's default generators set to a seed."""

from __future__ import annotations

import functools


def seed_torch(seed: int) -> None:
    """What `torch.manual_seed` does, where there is no device but the CPU without its three stack traces a call.

    It takes those for each kind of device that was never used, which costs as much as building a small network.
    """
    import torch

    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@functools.cache
def _has_accelerator() -> bool:
    import torch

    return bool(torch.accelerator.is_available())
