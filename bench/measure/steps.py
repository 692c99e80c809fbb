"""Steps of a network that are timed, the clocks that time them, and the random state that they leave alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.measure.seeding import seed_torch

Step = Callable[[], None]
OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def training_step(
    network: nn.Module, batch: Tensor, num_classes: int, precision: str, make: OptimizerFactory | None
) -> Step:
    """A step of training: forward, backward and the optimizer, on labels from a fixed stream.

    Args:
        network: is trained in place.
        batch: on the network's device.
        num_classes: the width of its logits.
        precision: "32", or "bf16" or "fp16" autocast.
        make: the optimizer from the parameters that require a gradient; None: Adam at its defaults.
    """
    network.train()
    optimizer = optimizer_of(network, make)
    stream = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (batch.shape[0],), generator=stream).to(batch.device)
    scaler = torch.amp.GradScaler(batch.device.type, enabled=precision == "fp16" and batch.device.type == "cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(batch.device, precision):
            output = network(batch)
            loss = functional.cross_entropy(_logits(output).float(), labels)
        scaled: Any = scaler.scale(loss)
        scaled.backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def optimizer_of(network: nn.Module, make: OptimizerFactory | None) -> torch.optim.Optimizer:
    """The optimizer of what asks for a gradient; Adam at its defaults where none is given."""
    return (make or torch.optim.Adam)([parameter for parameter in network.parameters() if parameter.requires_grad])


def backward_step(network: nn.Module, batch: Tensor, precision: str, make: OptimizerFactory | None) -> Step:
    """A step of a part in front of another: forward, backward from a gradient of ones, and the optimizer.

    A part without anything to train is only passed through.

    Args:
        network: is trained in place.
        batch: on the network's device.
        precision: "32", or "bf16" or "fp16" autocast.
        make: the optimizer from the parameters that require a gradient; None: Adam at its defaults.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return inference_step(network, batch, precision)
    network.train()
    optimizer = optimizer_of(network, make)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(batch.device, precision):
            output = network(batch)
        output.backward(torch.ones_like(output))
        optimizer.step()

    return step


def inference_step(network: nn.Module, batch: Tensor, precision: str) -> Step:
    """A forward pass in evaluation mode.

    Args:
        network: is set to evaluation mode.
        batch: on the network's device.
        precision: "32", or "bf16" or "fp16" autocast.
    """
    network.eval()

    def step() -> None:
        with torch.inference_mode(), autocast(batch.device, precision):
            network(batch)

    return step


def _logits(output: Any) -> Tensor:
    """Inception and GoogLeNet return auxiliary logits beside the main ones while training."""
    logits: Tensor = output if isinstance(output, Tensor) else output[0]
    return logits


def autocast(device: torch.device, precision: str) -> torch.amp.autocast_mode.autocast:
    """Half precision where the precision is one."""
    return torch.autocast(device.type, dtype=AUTOCAST.get(precision), enabled=precision in AUTOCAST)


def clock_of(device: torch.device) -> Callable[[Step], float]:
    """What tells the milliseconds of a step: the GPU's own events, or the wall clock."""
    return _cuda_ms if device.type == "cuda" else _wall_ms


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
def own_random_state(device: torch.device) -> Iterator[None]:
    """A random state of its own inside the block; afterwards the caller's is as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed_torch(0)
        yield


def energy_meter(device: torch.device) -> Callable[[], float] | None:
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
