"""How long commands take that compute nothing, and the harness's own share of a thousand cells that do nothing.

    python benchmarks/startup.py [--cells 1000] [--size 224] [--out benchmarks/results/startup.json]

Listings, a report and a second start are medians of several processes; Python's own start-up, measured in turns with
them, stands beside and is taken off where a bound is over it. `bench profile` of the nine variants prints its counts
first: the seconds until the ninth of them stands there, and until the end with quick timing, batches of 32, the counts
never counted before.
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import finish, machine

REPEATS = 5
REPORT_CELLS = 54
LAST_VARIANT = "deepmedix-wide-noskip-nodropout"
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


def profiled(size: int) -> tuple[float, float]:
    """Seconds of `bench profile` on a terminal until all counts stand there, and until it ends."""
    arguments = ["profile", "deepmedix*", "--timing", "quick", "--set", f"image_size={size}"]
    ours, theirs = pty.openpty()
    started = time.perf_counter()
    # Wide enough that no name is broken.
    environment = {**os.environ, "COLUMNS": "240"}
    words = [sys.executable, "-m", "bench", *arguments]
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown, counts = "", 0.0
    while text := _read(ours):
        shown += text
        # Its first row is that of the counts.
        if not counts and LAST_VARIANT in shown:
            counts = time.perf_counter() - started
    if process.wait():
        sys.exit(f"bench profile ended with {process.returncode}: {shown[-2000:]}")
    return counts, time.perf_counter() - started


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 1 << 16).decode(errors="replace")
    except OSError:
        # The other end of a terminal is closed.
        return ""


def run_arguments(folder: Path, cells: int) -> list[str]:
    """A run of as many cells that do nothing: one model and dataset, a seed each."""
    fields = [
        "image_size=16",
        "epochs=1",
        "batch_size=8",
        "synthetic_images=30",
        "bootstrap_resamples=100",
        "weights=none",
    ]
    chosen = [word for field in fields for word in ("--set", field)]
    grid = ["--models", "linear@one", "--datasets", "phantom-brain", "--regimes", "nothing", "--seeds", str(cells)]
    return ["run", *grid, "--progress", "none", "--timing", "off", *chosen, "--out", str(folder)]


def measured(cells: int, size: int, folder: Path) -> dict[str, Any]:
    """Every time, in seconds."""
    plugin = folder / "nothing_at_all.py"
    plugin.write_text(PLUGIN)
    found: dict[str, Any] = {}
    found["profile_counts_s"], found["profile_s"] = profiled(size)
    found["first_run_s"] = command(run_arguments(folder / "many", cells), plugin)
    found["second_start_s"] = statistics.median(
        command(run_arguments(folder / "many", cells), plugin) for _ in range(3)
    )
    command(run_arguments(folder / "few", REPORT_CELLS), plugin)
    listings = {"models_list": ["models", "list"], "data_list": ["data", "list"], "doctor": ["doctor"]}
    listings["report"] = ["report", str(folder / "few")]
    times: dict[str, list[float]] = {name: [] for name in ("python", *listings)}
    for _ in range(REPEATS):
        times["python"].append(python_alone())
        for name, arguments in listings.items():
            times[name].append(command(arguments))
    return found | {f"{name}_s": statistics.median(values) for name, values in times.items()}


def judged(found: dict[str, Any], cells: int) -> dict[str, dict[str, Any]]:
    """Each bound beside what was found; bounds of a thousand cells hold for a thousand."""
    bounds = {"profile_counts_s": 10.0, "profile_s": 60.0, "models_list_s": 1.0, "report_s": 1.0}
    bounds |= {"first_run_s": 30.0, "second_start_s": 3.0} if cells >= 1000 else {}
    over_python = ("models_list_s", "report_s")
    verdicts = {}
    for name, bound in bounds.items():
        seconds = found[name] - (found["python_s"] if name in over_python else 0.0)
        verdicts[name] = {"seconds": seconds, "wanted": bound, "holds": seconds <= bound}
        print(f"{'holds' if seconds <= bound else 'FALLS SHORT'}: {name} {seconds:.2f}, wanted {bound:g}",
              file=sys.stderr)  # fmt: skip
    return verdicts


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from bench.measure.rounds import OtherProcesses

    others, about = OtherProcesses(), machine()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["BENCH_HOME"], os.environ["BENCH_CACHE"] = f"{temporary}/home", f"{temporary}/cache"
        found = measured(asked.cells, asked.size, Path(temporary))
    # Child processes count as others, so this is the whole machine's load.
    about |= {"load_average_at_the_end": os.getloadavg()[0], "machine_busy": others.share()}
    settings = {"cells": asked.cells, "image_size": asked.size, "report_cells": REPORT_CELLS, "repeats": REPEATS}
    finish({"machine": about, **settings, **found, "bounds": judged(found, asked.cells)}, asked.out)


if __name__ == "__main__":
    main()
