"""What the in-process grid costs, and what Flower's Ray simulation of the same cell costs.

    python benchmarks/federated_overhead.py            both
    python benchmarks/federated_overhead.py --no-ray   the grid alone, some seconds

Overhead a round = its wall time, less the time inside the ClientApp, less decoding and aggregation: sampling, messages,
serialising the model for the clients, weighing bytes, the history's row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Message

from bench.core.config import load_protocol
from bench.data.loader import Part
from federated.client.app import client_app
from federated.server.checkpoint import Progress
from federated.server.rounds import Hooks
from federated.simulation.cell import ENGINE, Simulation
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from models.recipes.batches import Preparation
from models.recipes.context import FitContext, FitData
from models.registry import MODELS
from models.weights.initial import Normalization

CLIENTS, ROUNDS = 10, 20


class Clocked(InProcessGrid):
    """Adds up the time inside the ClientApp."""

    inside = 0.0
    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def _answer(self, message: Message) -> Message:
        started = self.clock()
        try:
            return super()._answer(message)
        finally:
            self.inside += self.clock() - started


def part(images: int, shape: tuple[int, ...], seed: int) -> Part:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(images, *shape)).astype(np.float16)
    names = np.array([f"{seed}-{i}" for i in range(images)])
    return Part(inputs, np.arange(images), random.integers(0, 3, images), names, names, np.array([""] * images))


def context(folder: Path, tuning: str, images: int, rounds: int) -> FitContext:
    settings = [f"epochs={rounds}", f"federated.clients={CLIENTS}", "early_stopping_patience=1000", f"tuning={tuning}"]
    protocol = load_protocol("demo", settings)
    network = MODELS.get("deepmedix" if tuning == "head" else "mobilenet_v2").build(3)
    shape = (1280, 3, 3) if tuning == "head" else (3, 32, 32)
    if tuning == "head":
        network.freeze_backbone()
    prepare = Preparation(Normalization((0.0,) * 3, (1.0,) * 3), "", torch.device("cpu"), False)
    data = FitData(part(images, shape, 1), part(40, shape, 2))
    device = torch.device("cpu")
    return FitContext(
        MODELS.get("deepmedix"), ("a", "b", "c"), 32, network, protocol, "fedavg", data, prepare, 11, 22, folder, device
    )


def grid_overhead(rounds: int, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of overhead of each round after the first, ascending."""
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation.of(context(Path(folder), "full", 2 * CLIENTS, rounds))
        make = echo(simulation)
        grid = Clocked(client_app(lambda _, context: make(int(context.node_config["partition-id"]))), CLIENTS)
        grid.clock = clock  # type: ignore[method-assign]
        loop, aggregating = simulation.rounds(grid), [0.0]
        for name in ("decode", "step"):
            setattr(loop._aggregator, name, clocked(getattr(loop._aggregator, name), aggregating, clock))
        marks, last = [], [0.0]

        def note(_: Progress) -> None:
            marks.append(1000 * (clock() - last[0] - grid.inside - aggregating[0]))
            grid.inside = aggregating[0] = 0.0
            last[0] = clock()

        grid.inside, last[0] = 0.0, clock()
        loop.run(simulation.start(), Hooks(save=note))
    return sorted(marks[1:])


def echo(simulation: Simulation) -> Callable[[int], Any]:
    """Clients that send the model back untrained: what is measured is everything around them."""

    def make(partition: int) -> Any:
        client: Any = simulation.client(partition)
        fixed = {"partition": partition, "num-examples": 2, "steps": 1, "images": 2, "loss": 1.0, "accuracy": 0.5}
        fixed |= {"seconds": 0.0, "seconds-training": 0.0}
        client.fit = lambda _, arrays: (
            {"weights": arrays["weights"], "buffers": arrays["buffers"]},
            {**fixed, "drift": 0.0},
        )
        client.evaluate = lambda _, arrays: fixed
        return client

    return make


def clocked(function: Callable[..., Any], total: list[float], clock: Callable[[], float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = clock()
        try:
            return function(*arguments)
        finally:
            total[0] += clock() - started

    return timed


def head_tuning(engine: str) -> tuple[float, dict[str, torch.Tensor]]:
    os.environ[ENGINE] = engine
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        made = context(Path(folder), "head", 640, ROUNDS)
        started = time.perf_counter()
        fit(made)
        return time.perf_counter() - started, made.module.state_dict()


def against_ray() -> None:
    (mine, first), (ray, second) = head_tuning("inprocess"), head_tuning("ray")
    same = all(torch.equal(first[name], second[name]) for name in first if "tracked" not in name)
    print(f"{ROUNDS} rounds of head tuning, K = {CLIENTS}: in-process {mine:.1f} s, Ray {ray:.1f} s")
    print(f"ratio {ray / mine:.1f}; {'the same bits' if same else 'other weights'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-ray", action="store_true", help="leave the comparison with Ray out")
    parser.add_argument("--rounds", type=int, default=40, help="rounds for the overhead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, clock in (("wall", time.perf_counter), ("CPU", time.process_time)):
        found = grid_overhead(arguments.rounds, clock)
        middle, worst = statistics.median(found), found[int(0.95 * len(found))]
        print(f"K = {CLIENTS}, MobileNetV2: {middle:.2f} ms of {name} time a round, 95th percentile {worst:.2f}")
    if not arguments.no_ray:
        against_ray()


if __name__ == "__main__":
    main()
