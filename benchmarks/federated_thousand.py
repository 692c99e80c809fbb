"""A thousand simulated clients, fifty a round: time and memory.

    python benchmarks/federated_thousand.py [--regime scaffold] [--rounds 5]

DeepMediX's head on drawn feature maps (1280 x 3 x 3). What clients remember between rounds lies in files, so
memory does not grow with their number.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.core.config import load_protocol
from bench.data.loader import Part
from federated.simulation.fit import fit
from models.recipes.batches import Preparation
from models.recipes.context import FitContext, FitData
from models.registry import MODELS
from models.weights.initial import Normalization


def part(images: int, seed: int) -> Part:
    random = np.random.default_rng(seed)
    inputs = np.empty((images, 1280, 3, 3), np.float16)
    for row in inputs:  # a row at a time, or the drawing itself would be the peak
        row[:] = random.standard_normal(row.shape, np.float32)
    names = np.array([f"{seed}-{i}" for i in range(images)])
    return Part(inputs, np.arange(images), random.integers(0, 3, images), names, names, np.array([""] * images))


def context(folder: Path, regime: str, clients: int, rounds: int) -> FitContext:
    settings = [f"epochs={rounds}", f"federated.clients={clients}", f"federated.participation={50 / clients}"]
    protocol = load_protocol("demo", [*settings, "early_stopping_patience=1000"])
    network = MODELS.get("deepmedix").build(3)
    network.freeze_backbone()
    device = torch.device("cpu")
    prepare = Preparation(Normalization((0.0,) * 3, (1.0,) * 3), "", device, False)
    data = FitData(part(4 * clients, 1), part(clients, 2))
    return FitContext(
        MODELS.get("deepmedix"), ("a", "b", "c"), 32, network, protocol, regime, data, prepare, 11, 22, folder, device
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regime", default="scaffold", help="scaffold keeps a vector a client")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = context(Path(folder), arguments.regime, arguments.clients, arguments.rounds)
        before, started = peak_mb(), time.perf_counter()
        outcome = fit(made)
        seconds = time.perf_counter() - started
    print(f"{arguments.clients} clients, 50 a round, {arguments.rounds} rounds of {arguments.regime}: {seconds:.1f} s")
    print(f"peak memory {peak_mb():.0f} MB, {peak_mb() - before:.0f} MB above the data and the network")
    print(f"asked a round: {sorted({row['clients_asked'] for row in outcome.history})}")


if __name__ == "__main__":
    main()
