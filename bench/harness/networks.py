"""Networks on their device, and what they cost there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from bench.core.config import Protocol, Runtime
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.harness.plan import Setup
from bench.measure.columns import names_of
from bench.measure.cost import cost
from bench.measure.timing import timings
from models.calibrate import put_statistics
from models.network import Network
from models.recipes.classifier import make_optimizer
from models.registry import ModelSpec
from models.weights.initial import load


def pick_device(runtime: Runtime) -> torch.device:
    """The device of a runtime. Raises UserError when it is not there."""
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
    except RuntimeError as error:
        raise UserError(f"--device takes auto, cpu, cuda or cuda:N, not {runtime.device!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {runtime.device}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def check_runtime(protocol: Protocol, runtime: Runtime) -> None:
    """Refuse a device that is not there, and 16-bit training where it cannot pay.

    Raises:
        UserError: in one sentence.
    """
    device = pick_device(runtime)
    if device.type == "cpu" and protocol.precision != "32":
        raise UserError(
            f"precision = {protocol.precision} runs on GPUs only (on a CPU it is more than ten times slower); "
            "use --set precision=32"
        )


def initial_network(setup: Setup, num_classes: int, device: torch.device) -> Network:
    """The network before the fit: built from the cell's seed, initial weights loaded, on its device.

    Raises:
        ValueError: the set-up brings statistics that do not fit the backbone.
    """
    torch.manual_seed(derive_seed(setup.spec.fit_seed, "init"))
    network = setup.model.build(num_classes)
    load(network, setup.weights)
    if setup.statistics:
        put_statistics(network.backbone, setup.statistics)
    return placed(network, setup.protocol, device)


def placed(network: Network, protocol: Protocol, device: torch.device) -> Network:
    """The network on its device and in the protocol's memory format, the backbone frozen if only the head is tuned."""
    if protocol.tuning == "head":
        network.freeze_backbone()
    network.to(device)
    if protocol.channels_last:
        network.to(memory_format=torch.channels_last)
    return network


@lru_cache(maxsize=256)
def model_cost(model: ModelSpec, num_classes: int, image_size: int) -> dict[str, Any]:
    """Parameters and operations of a model, in millions, and what was not counted."""
    found = cost(model.build(num_classes), image_size)
    sums = {name: value for name, value in vars(found).items() if name in names_of("cost")}
    return {**sums, "uncounted": dict(found.uncounted), "image_size": image_size}


@lru_cache(maxsize=256)
def model_timing(
    model: ModelSpec, num_classes: int, image_size: int, protocol: Protocol, device: torch.device
) -> dict[str, Any]:
    """Times of a batch by the protocol's settings; a frozen backbone is timed as frozen, images in."""
    network = placed(model.build(num_classes), protocol, device)
    batch = torch.randn(protocol.timing_batch_size, 3, image_size, image_size, device=device)
    if protocol.channels_last:
        batch = batch.to(memory_format=torch.channels_last)
    return timings(
        network,
        batch,
        num_classes,
        batches=protocol.timing_batches,
        warmup=protocol.timing_warmup,
        precision=protocol.precision,
        optimizer=lambda parameters: make_optimizer(parameters, protocol),
    )
