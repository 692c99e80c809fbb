"""Where a step's time goes on this machine, against its floor, and why 16 bits gain less on small maps.

    python benchmarks/where_time_goes.py [--sizes 96,224] [--quick] [--out benchmarks/results/where_time_goes.json]

The floor is arithmetic alone: multiply-accumulates over the peak of a large matrix product by the same threads, a
training step reckoned as three forward passes. By operator: milliseconds of a training step of `deepmedix` at batch 32
by torch's profiler, in 32 bits and under bf16 autocast.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import finish, in_turns, machine
from torch.profiler import ProfilerActivity, profile

from bench.harness.networks import bf16_instructions, model_cost
from bench.measure.steps import inference_step, training_step
from models.inference.engines import Computing, evaluator
from models.network import Network
from models.registry import MODELS

MODEL, CLASSES, BATCH = "deepmedix", 3, 32
KINDS = {
    "pointwise and dense convolutions": ("convolution", "mkldnn"),
    "depthwise convolutions": ("depthwise",),
    "BatchNorm": ("batch_norm",),
    "ReLU6": ("hardtanh", "clamp", "relu"),
    "casts and copies": ("copy_", "_to_copy", "to_dtype"),
    "optimizer": ("_fused_adam", "_foreach", "zero_"),
}


def peak_gflops(dtype: torch.dtype, side: int = 2048, repeats: int = 5) -> float:
    """Of a square matrix product, 1e9 floating-point operations a second, the fastest of several."""
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    torch.mm(left, right)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(left, right)
        taken.append(time.perf_counter() - started)
    return 2 * side**3 / min(taken) / 1e9


def network() -> Network:
    torch.manual_seed(0)
    return MODELS.get(MODEL).build(CLASSES).to(memory_format=torch.channels_last)


def images(size: int, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)


def steps(size: int, precisions: list[str]) -> dict[str, Callable[[], object]]:
    """Training steps at batch 32, and forward passes of the evaluated backbone at 16."""

    def adam(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=1e-3, fused=True)

    found: dict[str, Callable[[], object]] = {}
    for precision in precisions:
        found[f"training, {precision}"] = training_step(network(), images(size, BATCH), CLASSES, precision, adam)
        how = Computing("torch", precision)  # type: ignore[arg-type]
        found[f"inference, {precision}"] = inference_step(evaluator(network().backbone, how), images(size, 16), "32")
    return found


def by_operator(step: Callable[[], object], most: int = 14) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of one step by kind of work, and by operator."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    own = {event.key: event.self_cpu_time_total / 1e3 for event in seen.key_averages()}
    kinds = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for name, value in own.items():
        depthwise = "depthwise" in name
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)
                     and (depthwise == (kind == "depthwise convolutions"))), "the rest")  # fmt: skip
        kinds[kind] += value
    largest = sorted(own.items(), key=lambda item: -item[1])[:most]
    return {kind: round(value, 2) for kind, value in kinds.items()}, {name: round(value, 2) for name, value in largest}


def measured(size: int, precisions: list[str], repetitions: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Rates beside their floors, and operators."""
    sides = steps(size, precisions)
    seconds = in_turns(sides, repetitions)
    macs = model_cost(MODELS.get(MODEL), CLASSES, size)["macs_m"] * 1e6
    found: dict[str, Any] = {}
    for name, values in seconds.items():
        kind, precision = name.split(", ")
        training = kind == "training"
        floor = peaks[precision] * 1e9 / (2 * macs * (3 if training else 1))
        rate = (BATCH if training else 16) / statistics.median(values)
        found[name] = {"images_per_s": rate, "fastest": (BATCH if training else 16) / min(values),
                       "floor_images_per_s": floor, "of_the_floor": rate / floor}  # fmt: skip
        if training:
            kinds, operators = by_operator(sides[name])
            found[name] |= {"ms_by_kind": kinds, "ms_by_operator": operators}
        print(f"{size} px, {name}: {rate:.1f} images/s, floor {floor:.0f} ({100 * rate / floor:.0f} %)")
    if "bf16" in precisions:
        gain = statistics.median(
            one / other for one, other in zip(seconds["training, 32"], seconds["training, bf16"], strict=True)
        )
        found["bf16_training_gain"] = gain
        print(f"{size} px: bf16 trains {gain:.2f} times as fast as 32 bits")
        for kind, value in found["training, 32"]["ms_by_kind"].items():
            print(f"  {kind}: {value:.0f} ms in 32 bits, {found['training, bf16']['ms_by_kind'][kind]:.0f} in bf16")
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="64,96,128,224")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="96 and 224 px, 3 repetitions")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.sizes, asked.repetitions = "96,224", 3
    precisions = ["32", *(["bf16"] if bf16_instructions() else [])]
    peaks = {"32": peak_gflops(torch.float32)}
    if "bf16" in precisions:
        peaks["bf16"] = peak_gflops(torch.bfloat16)
    print(", ".join(f"matrix peak, {name}: {value:.0f} GFLOP/s" for name, value in peaks.items()))
    sizes = [int(word) for word in asked.sizes.split(",")]
    found = {str(size): measured(size, precisions, asked.repetitions, peaks) for size in sizes}
    finish({"peaks_gflops": peaks, "sizes": found, "machine": machine()}, asked.out)


if __name__ == "__main__":
    main()
