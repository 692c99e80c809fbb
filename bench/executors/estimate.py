"""A rough time for the cells that are left, said before the first one starts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.core.config import TimingMode
from bench.harness.plan import Plan, PlannedCell
from bench.harness.timing.times import effort
from bench.store.run import Run
from models.registry import ModelSpec

TRAIN_PASSES = 3.0  # a training step costs about three forward passes: forward, and two products backward
HEAD_SECONDS_PER_IMAGE = 1 / 1500  # training a head on stored maps, measured on two CPU cores
FIXED_SECONDS = 1.0
_COMPILED = ("centralized", "twin")

# Measured on two CPU cores at 224 pixels, batch 32 (benchmarks/README.md).
COMPILE_SECONDS, AGAIN_SECONDS = 98.0, 10.0  # the first network of a shape; each later one, from the compiler's cache
COMPILE_GAIN = 1.17


@dataclass(frozen=True)
class Compiling:
    """Whether compiling pays for a plan, and why."""

    pays: bool
    sentence: str


def compiling(plan: Plan, pending: list[PlannedCell]) -> Compiling:
    """Weigh the seconds of compiling against what it saves over every epoch of the cells that train whole networks."""
    cells = [cell for cell in pending if cell.spec.protocol.tuning == "full" and cell.spec.regime in _COMPILED]
    if not cells:
        return Compiling(False, "nothing to compile: it is for whole networks that are trained in one place")
    shapes = {(cell.spec.model, cell.image_size, cell.spec.protocol.batch_size) for cell in cells}
    costs = COMPILE_SECONDS * len(shapes) + AGAIN_SECONDS * (len(cells) - len(shapes))
    rate = machine_rate()
    trained = sum(_from_operations(plan, cell, rate, set()) - FIXED_SECONDS for cell in cells)
    saved = trained * (1 - 1 / COMPILE_GAIN)
    epochs = cells[0].spec.protocol.epochs
    back = math.ceil(epochs * costs / saved)
    told = f"about {costs:.0f} s of compiling save about {saved:.0f} s over {epochs} epochs"
    if saved > costs:
        return Compiling(True, f"on: {told}, paid back after {back}; last bits differ from those of an ordinary fit")
    return Compiling(False, f"off: {told}; it would pay from {back} epochs on")


@dataclass(frozen=True)
class Estimate:
    """Seconds that a plan will take, one cell after the other; `timing` of them go into batch times."""

    seconds: float
    timing: float


def estimate_seconds(plan: Plan, pending: list[PlannedCell], run: Run, mode: TimingMode = "full") -> Estimate:
    """Seconds for the pending cells: from cells of the same model that are done, else from operation counts.

    An upper bound in kind: it counts every epoch, although early stopping may save some, and every batch that timing
    may take, although it ends when the spread is small.

    Args:
        mode: how batches are timed.
    """
    known = _known_seconds(plan, run)
    rate = machine_rate()
    timing = _timing_seconds(plan, pending, rate, mode)
    seen: set[tuple[str, ...]] = set()
    cells = sum(known.get(cell.spec.model) or _from_operations(plan, cell, rate, seen) for cell in pending)
    return Estimate(cells + timing, timing)


def _timing_seconds(plan: Plan, pending: list[PlannedCell], rate: float, mode: TimingMode) -> float:
    """A backbone is timed once for all models on it; heads are small beside it, but for the whole network's memory."""
    total = 0.0
    seen: set[tuple[object, ...]] = set()
    for cell in pending if mode != "off" else []:
        protocol = cell.spec.protocol
        most, full = effort(mode, protocol), protocol.tuning == "full"
        batch = protocol.timing_batch_size * _forward_operations(cell.model, cell.image_size) / rate
        step = batch * ((1 + TRAIN_PASSES) if full else 1.0)
        backbone = (cell.model.backbone, cell.image_size)
        model = (cell.spec.model, cell.image_size, len(plan.tables[cell.spec.dataset].classes))
        total += step * (most.most + most.warmup) if backbone not in seen else 0.0
        total += step * 2 if mode == "full" and model not in seen else 0.0
        seen |= {backbone, model}
    return total


def _known_seconds(plan: Plan, run: Run) -> dict[str, float]:
    times: dict[str, list[float]] = {}
    for cell in plan.cells:
        stored = run.cell(cell.key, cell.spec.as_dict())
        if stored.result is not None:
            times.setdefault(cell.spec.model, []).append(stored.result["seconds"])
    return {model: sum(values) / len(values) for model, values in times.items()}


def _from_operations(plan: Plan, cell: PlannedCell, rate: float, seen: set[tuple[str, ...]]) -> float:
    protocol, images = cell.spec.protocol, len(plan.tables[cell.spec.dataset])
    forward = _forward_operations(cell.model, cell.image_size) / rate
    total = FIXED_SECONDS
    if protocol.tuning == "full":
        return total + protocol.epochs * images * TRAIN_PASSES * 0.8 * forward
    features = ("features", cell.model.backbone, cell.spec.dataset, str(cell.image_size))
    total += 0.0 if features in seen else images * forward
    seen.add(features)
    return total + protocol.epochs * images * HEAD_SECONDS_PER_IMAGE


@lru_cache(maxsize=256)
def _forward_operations(model: ModelSpec, image_size: int) -> float:
    with torch.device("meta"):
        network = model.build(2).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.empty(1, 3, image_size, image_size))
    return float(counter.get_total_flops())


@lru_cache(maxsize=1)
def machine_rate() -> float:
    """Operations a second that this machine reaches on convolutions like MobileNetV2's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers = [
        torch.nn.Conv2d(64, 384, 1),
        torch.nn.Conv2d(384, 384, 3, padding=1, groups=384),
        torch.nn.Conv2d(384, 64, 1),
    ]
    block = torch.nn.Sequential(*layers).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = torch.randn(16, 64, 14, 14, device=device).to(memory_format=torch.channels_last)
    counter = FlopCounterMode(display=False)
    with torch.no_grad():
        with counter:
            block(batch)
        started = time.perf_counter()
        for _ in range(5):
            float(block(batch).sum())
    return 5 * counter.get_total_flops() / (time.perf_counter() - started)
