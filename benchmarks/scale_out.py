"""What an executor costs by cell, and what a second worker brings, on this machine alone.

    python benchmarks/scale_out.py overhead --out /tmp/scale
    python benchmarks/scale_out.py speedup --datasets br35h --out /tmp/scale
    python benchmarks/scale_out.py loss --datasets br35h --out /tmp/scale

`overhead` runs many cells of a fraction of a second on one worker: what lies between the first cell's begin and the
last one's end, less the cells' own time, is the executor's. `speedup` runs cells of some seconds on one and on two
workers of one thread each. `loss` kills one of three Ray machines on loopback in the middle and compares the results
with those of one process. Every run must leave the same results, bit for bit. With `--device cuda` the
workers of `speedup` share one GPU.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kill_kinds import contents

from bench.core.config import Runtime, load_protocol
from bench.executors.driver import Driver, Stop
from bench.executors.pool import drive
from bench.executors.processes import Processes
from bench.executors.run import prepare_folder
from bench.executors.serial import work_through
from bench.harness.plan import Plan, Request, make_plan
from bench.store.run import Run

QUICK = ["image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
SLOW = ["image_size=64", "epochs=1", "tuning=full", "timing_batch_size=2"]


class Clock:
    """Hears when the first cell began and the last one ended; does something at an event."""

    def __init__(self, on_event: Callable[[Clock], None] = lambda clock: None) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.own = 0.0
        self.lost: list[str] = []
        self._on_event = on_event

    def started(self, cell: Any, folder: Path) -> None:
        """Note when."""
        self.begun.append(time.perf_counter())

    def event(self, key: str, event: dict[str, Any]) -> None:
        """Note lost workers."""
        if event["event"] == "lost":
            self.lost.append(event["reason"])
        self._on_event(self)

    def finished(self, stored: Any) -> None:
        """Note when, and the cell's own seconds."""
        self.ended.append(time.perf_counter())
        self.own += stored.result["seconds"]

    def waiting(self, count: int) -> None:
        """Nobody else runs."""

    @property
    def span(self) -> float:
        """Seconds from the first cell's begin to the last one's end."""
        return max(self.ended) - min(self.begun)


def serial(driver: Driver) -> None:
    work_through(driver)


def processes(driver: Driver) -> None:
    with Processes(driver) as workers:
        drive(driver, workers)


def on_ray(driver: Driver) -> None:
    import ray

    from bench.executors.ray.cluster import Cluster

    ours = not ray.is_initialized()
    if ours:
        ray.init(num_cpus=driver.runtime.jobs, include_dashboard=False, log_to_driver=False)
    try:
        with Cluster.join(driver) as cluster:
            drive(driver, cluster)
    finally:
        if ours:
            ray.shutdown()


EXECUTORS = {"serial": serial, "processes": processes, "ray": on_ray}


def run(plan: Plan, out: Path, executor: str, workers: int, clock: Clock, **runtime_fields: Any) -> dict[str, Any]:
    """Run a plan in a folder of its own; what its cells contain."""
    shutil.rmtree(out, ignore_errors=True)
    folder = Run.create(out)
    prepare_folder(plan, folder, "")
    runtime = Runtime(**{"threads": 1, "jobs": workers, "per_gpu": workers, "device": "cpu", **runtime_fields})
    EXECUTORS[executor](Driver(plan, folder, runtime, [clock], Stop()))
    found: dict[str, Any] = contents(out)
    return found


def plan_of(recipe: list[str], models: str, datasets: str, seeds: int) -> Plan:
    protocol = load_protocol("demo", recipe)
    return make_plan(Request(models, datasets, protocol, "centralized", str(seeds)))


def overhead(asked: argparse.Namespace) -> bool:
    plan = plan_of(QUICK, "deepmedix,deepmedix-gmp", "phantom-brain", asked.seeds)
    first: dict[str, Any] = {}
    equal = True
    run(plan, asked.out / "warm", "serial", 1, Clock())
    for executor, number in itertools.product(EXECUTORS, range(asked.runs)):
        clock = Clock()
        found = run(plan, asked.out / executor, executor, 1, clock)
        first = first or found
        equal = equal and found == first
        count = len(plan.cells)
        print(
            f"{executor:<10} run {number + 1}: {count} cells, {1000 * clock.own / count:.0f} ms of their own each, "
            f"{1000 * (clock.span - clock.own) / count:.0f} ms of the executor's",
            flush=True,
        )
    return equal


def speedup(asked: argparse.Namespace) -> bool:
    plan = plan_of(SLOW, "deepmedix,deepmedix-noskip,deepmedix-gmp,deepmedix-wide", asked.datasets, asked.seeds)
    first: dict[str, Any] = {}
    equal = True
    for executor, workers in (("serial", 1), ("processes", 1), ("processes", 2), ("ray", 1), ("ray", 2)):
        clock = Clock()
        started = time.perf_counter()
        found = run(plan, asked.out / executor, executor, workers, clock, device=asked.device)
        whole = time.perf_counter() - started
        first = first or found
        equal = equal and found == first
        print(
            f"{executor:<10} {workers} worker: {len(plan.cells)} cells, {clock.span:.1f} s from the first begin to the "
            f"last end, {whole:.1f} s with the start of the workers",
            flush=True,
        )
    return equal


def loss(asked: argparse.Namespace) -> bool:
    import ray
    from ray.cluster_utils import Cluster

    plan = plan_of(SLOW, "deepmedix,deepmedix-noskip,deepmedix-gmp,deepmedix-wide", asked.datasets, asked.seeds)
    whole = run(plan, asked.out / "whole", "serial", 1, Clock())

    def own(name: str) -> dict[str, str]:
        return {f"BENCH_{what}": str(asked.out / name / what.lower()) for what in ("HOME", "CACHE")}

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": own("head")})
    victims = [machines.add_node(num_cpus=1, env_vars=own(f"worker{number}")) for number in range(2)]
    machines.wait_for_nodes()

    def kill(clock: Clock) -> None:
        if len(victims) == 2 and len(clock.ended) >= 2 and len(clock.begun) - len(clock.ended) == 3:
            machines.remove_node(victims.pop(), allow_graceful=False)

    clock = Clock(kill)
    ray.init(address=machines.address, log_to_driver=False)
    try:
        found = run(plan, asked.out / "killed", "ray", 3, clock)
    finally:
        ray.shutdown()
        machines.shutdown()
    print(f"{len(found)} of {len(plan.cells)} cells ended; lost and run elsewhere: {len(clock.lost)} {clock.lost}")
    return found == whole and len(clock.lost) > 0


def main() -> int:
    """Print the times; 0 when every run left the same results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "speedup", "loss"])
    parser.add_argument("--datasets", default="phantom-brain")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    equal = {"overhead": overhead, "speedup": speedup, "loss": loss}[asked.what](asked)
    print(f"equal bit for bit: {equal}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
