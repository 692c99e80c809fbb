"""How long commands take that compute nothing, and the harness's own share of a thousand cells that do nothing.

    python benchmarks/startup.py [--cells 1000] [--out benchmarks/startup.json]

Every time is the median of several processes; Python's own start-up, measured in turns with them, stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPEATS = 5
REPORT_CELLS = 54
PLUGIN = """
from bench.harness.regimes import REGIMES, RegimeSpec
from models.backbones.registry import BACKBONES, Backbone


def fit(context):
    from models.recipes.context import FitOutcome

    return FitOutcome([{"epoch": 0}], context.predictor())


def build():
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 8, stride=8))


REGIMES.register("nothing", RegimeSpec("nothing", "no step at all", fit))
BACKBONES.register("one", Backbone("one", 4, build, min_size=16))
"""


def command(arguments: list[str], plugin: Path | None = None) -> float:
    """Seconds of `bench` in a process of its own."""
    extra = ["--plugin", str(plugin)] if plugin else []
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, *extra], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(f"bench {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return time.perf_counter() - started


def python_alone() -> float:
    """Seconds of an interpreter that does nothing."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def run_arguments(folder: Path, cells: int) -> list[str]:
    """A run of as many cells that do nothing: one model and data set, a seed each."""
    fields = ["image_size=16", "epochs=1", "synthetic_images=30", "bootstrap_resamples=100", "weights=none"]
    chosen = [word for field in fields for word in ("--set", field)]
    grid = ["--models", "linear@one", "--datasets", "phantom-brain", "--regimes", "nothing", "--seeds", str(cells)]
    return ["run", *grid, "--progress", "none", "--timing", "off", *chosen, "--out", str(folder)]


def measured(cells: int, folder: Path) -> dict[str, Any]:
    """Every time, in seconds."""
    plugin = folder / "nothing_at_all.py"
    plugin.write_text(PLUGIN)
    found: dict[str, Any] = {"cells": cells}
    found["first_run_s"] = command(run_arguments(folder / "many", cells), plugin)
    found["second_start_s"] = statistics.median(
        command(run_arguments(folder / "many", cells), plugin) for _ in range(3)
    )
    command(run_arguments(folder / "few", REPORT_CELLS), plugin)
    listings = {"models list": ["models", "list"], "data list": ["data", "list"], "doctor": ["doctor"]}
    listings[f"report of {REPORT_CELLS} cells"] = ["report", str(folder / "few")]
    times: dict[str, list[float]] = {name: [] for name in ("python", *listings)}
    for _ in range(REPEATS):
        times["python"].append(python_alone())
        for name, arguments in listings.items():
            times[name].append(command(arguments))
    return found | {f"{name}_s": statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from bench.harness.environment import diagnosis
    from bench.measure.rounds import OtherProcesses

    others = OtherProcesses()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["BENCH_HOME"], os.environ["BENCH_CACHE"] = f"{temporary}/home", f"{temporary}/cache"
        found = measured(asked.cells, Path(temporary))
    about = {name: diagnosis()[name] for name in ("processor", "cores", "python")}
    # Child processes count as others, so this is the whole machine's load.
    found |= {"machine": about, "load_average_at_the_end": os.getloadavg()[0], "machine_busy": others.share()}
    print(json.dumps(found, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
