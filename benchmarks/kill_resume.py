"""Kill a run at random moments with SIGKILL, start it again each time, and compare with an undisturbed run.

    python benchmarks/kill_resume.py --kills 20 --out /tmp/kill_resume

Everything but clocks must be equal bit for bit: predictions, chosen weights, histories, metrics, intervals, costs.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.store.run import Run

GRID = ["--models", "deepmedix,shufflenet_v2_x1_0", "--datasets", "phantom-brain,phantom-skin", "--seeds", "1"]
RECIPE = ["tuning=full", "image_size=32", "synthetic_images=90", "batch_size=8", "timing_batch_size=2"]


def command(out: Path, epochs: int, jobs: int = 1) -> list[str]:
    """The small run: two models fully tuned on both embedded datasets."""
    recipe = [word for field in [*RECIPE, f"epochs={epochs}"] for word in ("--set", field)]
    fixed = ["--protocol", "demo", "--regimes", "centralized", "--progress", "plain", "--threads", "1"]
    fixed += ["--jobs", str(jobs)]
    return [sys.executable, "-m", "bench", "run", *GRID, *fixed, *recipe, "--out", str(out)]


def kill_once(arguments: list[str], moment: float, while_starting: bool) -> bool:
    """Start, kill; whether the kill met a living process."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    if not while_starting:
        for line in process.stdout:
            if line.startswith("["):
                break
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run_with_kills(out: Path, epochs: int, kills: int, seed: int, spread: float, jobs: int = 1) -> tuple[int, int]:
    """Kill so many times, then let the run end; how many kills met it alive, and at how many done cells."""
    draw = random.Random(seed)
    alive = 0
    for number in range(kills):
        hit = kill_once(command(out, epochs, jobs), draw.uniform(0, spread), while_starting=draw.random() < 0.2)
        alive += hit
        done = len(list(out.glob("cells/*/result.json")))
        print(f"kill {number + 1}: {'alive' if hit else 'the run had ended'}, {done} cells done", flush=True)
    finish(out, epochs, jobs)
    return alive, len(list(out.glob("cells/*/result.json")))


def finish(out: Path, epochs: int, jobs: int = 1) -> None:
    """Let the run end by itself."""
    subprocess.run(command(out, epochs, jobs), check=True, stdout=subprocess.DEVNULL)


def contents(out: Path) -> dict[str, Any]:
    """Everything of a run that is not a clock's reading."""
    found: dict[str, Any] = {}
    for cell in Run.open(out).cells():
        assert cell.result is not None, f"{cell.key}: {cell.problem}"
        metrics = {name: value for name, value in cell.result["metrics"].items() if not is_clock(name)}
        found[cell.key] = {
            "metrics": metrics,
            **{part: cell.result[part] for part in ("cell", "intervals", "cost", "data", "notes")},
            "predictions": without_clocks(cell.predictions()),
            "history": without_clocks(cell.history()),
            "weights": (cell.folder / "predictor" / "weights.safetensors").read_bytes(),
        }
    return found


def without_clocks(table: pa.Table) -> dict[str, list[Any]]:
    """A table's columns, less the clocks'."""
    columns: dict[str, list[Any]] = table.drop_columns(
        [name for name in table.column_names if is_clock(name)]
    ).to_pydict()
    return columns


def is_clock(column: str) -> bool:
    """Whether a column is a time, which no two runs share."""
    return column.startswith("seconds") or column == "train_images_per_s"


def main() -> int:
    """Print what was done; 0 when both runs are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spread", type=float, default=6.0, help="seconds after the first cell's start")
    parser.add_argument("--jobs", type=int, default=1, help="processes; the kill meets the driver, not its workers")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    alive, cells = run_with_kills(asked.out / "killed", asked.epochs, asked.kills, asked.seed, asked.spread, asked.jobs)
    finish(asked.out / "whole", asked.epochs)
    equal = contents(asked.out / "killed") == contents(asked.out / "whole")
    print(f"{alive} of {asked.kills} kills met the run alive; {cells} cells; equal bit for bit: {equal}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
