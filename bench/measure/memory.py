"""The most memory that a piece of work holds at once, whatever the process did before."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch


def peak_memory_mb(device: torch.device, work: Callable[[], None]) -> float | None:
    """The peak, in MiB, of what torch allocates on a device while `work` runs, above what it held before.

    The resident size of a process would not do on a CPU, not even with its high-water mark set back: memory that was
    freed stays resident and is used again, so that a network after a larger one would seem to need nothing. What
    libraries take past torch's allocator (oneDNN's scratch memory) is not counted.

    Returns:
        None where a profiler runs already, which on a CPU is what tells of allocations.
    """
    if device.type == "cuda":
        return _on_a_gpu(device, work)
    if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
        return None
    # Otherwise it tells of itself on the standard error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True) as profiled:
        work()
    return _highest(profiled.kineto_results) / 2**20


def _on_a_gpu(device: torch.device, work: Callable[[], None]) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return float(torch.cuda.max_memory_allocated(device) - before) / 2**20


def _highest(results: Any) -> int:
    """The highest running sum of bytes that were allocated (freed: negative)."""
    level, highest = 0, 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest
