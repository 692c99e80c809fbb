"""ONNX files of `deepmedix`: agreement with PyTorch, size in 8 bits, latency of one image against eager PyTorch.

    python benchmarks/edge.py [--quick] [--cell RUN/KEY] [--out benchmarks/results/edge.json]

Without a cell the network has random weights, which is enough for size and latency; with a cell the loss of accuracy in
8 bits on its test part is measured too. Latencies are of one thread, one image, normalized and in memory, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, goal, machine

from bench.core.config import Protocol
from bench.harness.export.report import export, of_cell, of_model, profile_files
from bench.harness.finished import FinishedCell
from models.inference.graphs import INPUT, session

MODEL = "deepmedix"
A_THIRD = 1 / 3


def latencies(files: dict[str, Path], size: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of one image by side, in turns, by one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = of_model(MODEL, 3, Protocol(image_size=size)).predictor.network  # type: ignore[attr-defined]
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    tensor = torch.from_numpy(image)
    runs = {name: session(path, 1) for name, path in files.items()}

    @torch.inference_mode()
    def eager() -> None:
        network(tensor).softmax(1)

    sides: dict[str, Any] = {"eager": eager}
    sides |= {name: lambda run=run: run.run(None, {INPUT: image}) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats + 3):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if number >= 3:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def times(seconds: dict[str, list[float]], fast: str) -> dict[str, float]:
    """How many times as fast as eager: the ratio of medians, of the fastest, and of the tenths around."""
    slow, other = seconds["eager"], seconds[fast]
    low, high = np.percentile(slow, 10) / np.percentile(other, 90), np.percentile(slow, 90) / np.percentile(other, 10)
    middle = statistics.median(slow) / statistics.median(other)
    return {"ratio": middle, "of_fastest": min(slow) / min(other), "low": float(low), "high": float(high)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--cell", type=Path)
    parser.add_argument("--quick", action="store_true", help="20 repetitions")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    repeats = 20 if asked.quick else asked.repeats
    protocol = Protocol(image_size=asked.size)
    with tempfile.TemporaryDirectory() as folder:
        material = of_cell(FinishedCell.at(asked.cell)) if asked.cell else of_model(MODEL, 3, protocol)
        size = material.predictor.card.image_size
        files = {name: Path(folder) / f"{name}.onnx" for name in ("fp32", "int8")}
        rows = {name: export(material, path, int8=name == "int8") for name, path in files.items()}
        profiles = list(profile_files([str(path) for path in files.values()], 3, protocol, repeats))
        seconds = latencies(files, size, repeats)
    share, agreement = rows["int8"]["of_fp32_size"], rows["fp32"]["differs_from_pytorch"]
    print(f"{'holds' if agreement <= 1e-4 else 'FALLS SHORT'}: differs from PyTorch by {agreement:.2g}, wanted 1e-4")
    print(f"{'holds' if share <= A_THIRD else 'FALLS SHORT'}: int8 is {share:.3f} of the size, wanted 0.333 at most")
    goals = [goal(f"latency of one image, one thread, {name} against eager PyTorch", times(seconds, name), 2.0)
             for name in files]  # fmt: skip
    milliseconds = {
        name: {f"p{at}_ms": float(np.percentile(values, at)) * 1e3 for at in (50, 90, 99)}
        for name, values in seconds.items()
    }
    about = {"model": material.predictor.card.model, "size": size, "repeats": repeats, "cell": material.about["cell"]}
    finish({"settings": about, "exports": rows, "latency": milliseconds, "goals": goals, "profiles": profiles,
            "machine": machine()}, asked.out)  # fmt: skip


if __name__ == "__main__":
    main()
