"""Per-batch times of a network: median and 95th percentile, on the device that the batch lies on."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.measure.memory import peak_memory_mb

Step = Callable[[], None]
Makes = Callable[[], Step]
OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

_KIND_COLUMNS = ("batch_ms", "batch_ms_p95", "energy_j")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    if batches < 1 or precision not in {"32", *_AUTOCAST}:
        raise ValueError(f"timings need batches >= 1 and precision 32, bf16 or fp16; got {batches=}, {precision=}")
    device = batch.device
    result = _description(batch, batches, warmup, precision)

    def steps() -> dict[str, Makes]:
        """The steps of a copy of the network."""
        timed = copy.deepcopy(network).to(device)
        training = {"train": lambda: _training_step(timed, batch, num_classes, precision, optimizer)} if train else {}
        return training | ({"infer": lambda: _inference_step(timed, batch, precision)} if infer else {})

    with _own_random_state(device):
        result["peak_memory_mb"] = peak_memory_mb(device, lambda: _twice(steps()))
        for kind, make in steps().items():
            result |= _measured(kind, make(), device, batches, warmup)
    result["energy_j"] = result["train_energy_j"] if train else result["infer_energy_j"]
    return result


def _description(batch: Tensor, batches: int, warmup: int, precision: str) -> dict[str, Any]:
    cuda = batch.device.type == "cuda"
    name = torch.cuda.get_device_name(batch.device) if cuda else _processor()
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


def _processor() -> str:
    """The processor's own name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"cpu ({sys.platform})"


def _twice(steps: dict[str, Makes]) -> None:
    """Take each kind of step twice: from the second on, the optimizer's state is there before the forward pass."""
    for make in steps.values():
        step = make()
        step()
        step()


def _training_step(
    network: nn.Module, batch: Tensor, num_classes: int, precision: str, make: OptimizerFactory | None
) -> Step:
    network.train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = (make or torch.optim.Adam)(parameters)
    stream = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (batch.shape[0],), generator=stream).to(batch.device)
    scaler = torch.amp.GradScaler(batch.device.type, enabled=precision == "fp16" and batch.device.type == "cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(batch.device, precision):
            output = network(batch)
            loss = functional.cross_entropy(_logits(output).float(), labels)
        scaled: Any = scaler.scale(loss)
        scaled.backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _inference_step(network: nn.Module, batch: Tensor, precision: str) -> Step:
    network.eval()

    def step() -> None:
        with torch.inference_mode(), _autocast(batch.device, precision):
            network(batch)

    return step


def _logits(output: Any) -> Tensor:
    """Inception and GoogLeNet return auxiliary logits beside the main ones while training."""
    logits: Tensor = output if isinstance(output, Tensor) else output[0]
    return logits


def _autocast(device: torch.device, precision: str) -> torch.amp.autocast_mode.autocast:
    return torch.autocast(device.type, dtype=_AUTOCAST.get(precision), enabled=precision in _AUTOCAST)


def _measured(kind: str, step: Step, device: torch.device, batches: int, warmup: int) -> dict[str, float | None]:
    for _ in range(warmup):
        step()
    clock = _cuda_ms if device.type == "cuda" else _wall_ms
    meter = _energy_meter(device)
    start = meter() if meter else 0.0
    spent = [clock(step) for _ in range(batches)]
    values = (
        float(np.median(spent)),
        float(np.percentile(spent, 95)),
        (meter() - start) / batches if meter else None,
    )
    return {f"{kind}_{column}": value for column, value in zip(_KIND_COLUMNS, values, strict=True)}


def _wall_ms(step: Step) -> float:
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1e3


def _cuda_ms(step: Step) -> float:
    make: Any = torch.cuda.Event
    start, end = make(enable_timing=True), make(enable_timing=True)
    start.record()
    step()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


def _energy_meter(device: torch.device) -> Callable[[], float] | None:
    """A reader of the device's total energy in joules through NVML, None where there is none."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
