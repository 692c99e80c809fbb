"""Per-batch times of a network: median and 95th percentile, on the device that the batch lies on."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.measure.memory import peak_memory_mb
from bench.measure.rounds import Effort, Subject, in_rounds
from bench.measure.steps import (
    AUTOCAST,
    OptimizerFactory,
    Step,
    inference_step,
    own_random_state,
    training_step,
)

Makes = Callable[[], Step]

_KIND_COLUMNS = ("batch_ms", "batch_ms_p95", "energy_j")


def timings(
    network: nn.Module,
    batch: Tensor,
    num_classes: int,
    *,
    train: bool = True,
    infer: bool = True,
    batches: int = 30,
    warmup: int = 10,
    precision: str = "32",
    optimizer: OptimizerFactory | None = None,
) -> dict[str, Any]:
    """Time training steps (forward, backward, optimizer) and inference on one batch that is already on its device.

    Args:
        network: its copy is timed; weights, buffers, gradients and random state of the caller's stay untouched.
        batch: [N, 3, H, W] (or whatever the network takes), loading excluded.
        num_classes: width of the logits; labels are drawn from a fixed stream.
        train, infer: which of the two is timed.
        batches: measured batches, after `warmup` unmeasured ones.
        precision: "32", or "bf16"/"fp16" autocast.
        optimizer: made from the parameters that require a gradient; Adam at its defaults when none is given.

    Returns:
        train_batch_ms, train_batch_ms_p95, infer_batch_ms, infer_batch_ms_p95 (None where not asked for),
        train_energy_j, infer_energy_j (joules a batch; None without NVML), energy_j (that of training where it was
        timed), peak_memory_mb (network, gradients, optimizer's state and activations, without the batch; None where it
        cannot be told), device, device_kind, timed_precision, threads, batch_size, batches, warmup.

    Raises:
        ValueError: fewer than 1 measured batch, or an unknown precision.
    """
    if batches < 1 or precision not in {"32", *AUTOCAST}:
        raise ValueError(f"timings need batches >= 1 and precision 32, bf16 or fp16; got {batches=}, {precision=}")
    device = batch.device
    result = description(batch, batches, warmup, precision)

    def steps(of: Callable[[], nn.Module]) -> dict[str, Makes]:
        training = {"train": lambda: training_step(of(), batch, num_classes, precision, optimizer)} if train else {}
        return training | ({"infer": lambda: inference_step(of(), batch, precision)} if infer else {})

    def copied() -> nn.Module:
        return copy.deepcopy(network).to(device)

    with own_random_state(device):
        result["peak_memory_mb"] = peak_memory_mb(device, lambda: twice(steps(functools.cache(copied)).values()))
        # A copy a kind of step: they are timed in turns, and one is in training, the other in evaluation mode.
        subjects = [Subject(kind, make()) for kind, make in steps(copied).items()]
        found = in_rounds(subjects, device, Effort(batches, batches, warmup, 0.0))
    for kind, samples in found.samples.items():
        result[f"{kind}_batch_ms"] = float(np.median(samples))
        result[f"{kind}_batch_ms_p95"] = float(np.percentile(samples, 95))
        result[f"{kind}_energy_j"] = found.energy_j[kind]
    result["energy_j"] = result["train_energy_j"] if train else result["infer_energy_j"]
    return result


def description(batch: Tensor, batches: int, warmup: int, precision: str) -> dict[str, Any]:
    """Where and how batches are timed, with the columns that are to be filled.

    Args:
        batch: what is timed, on its device.
        batches: measured ones, after `warmup` unmeasured ones.
        precision: "32", or "bf16" or "fp16" autocast.
    """
    cuda = batch.device.type == "cuda"
    name = torch.cuda.get_device_name(batch.device) if cuda else processor()
    return {
        "device": name,
        "device_kind": batch.device.type,
        "timed_precision": precision,
        "threads": torch.get_num_threads(),
        "batch_size": int(batch.shape[0]),
        "batches": batches,
        "warmup": warmup,
        **{f"{kind}_{column}": None for kind in ("train", "infer") for column in _KIND_COLUMNS},
    }


@functools.lru_cache(maxsize=1)
def processor() -> str:
    """The processor's own name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"cpu ({sys.platform})"


def twice(makes: Iterable[Makes]) -> None:
    """Take each kind of step twice: from the second on, the optimizer's state is there before the forward pass."""
    for make in makes:
        step = make()
        step()
        step()
