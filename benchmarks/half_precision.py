"""Whether bf16 costs accuracy: the same cells in 32 and in 16 bits, paired by image, on real images.

    python benchmarks/half_precision.py --data ../figshare-brain --weights FILE [--quick] [--out benchmarks/results/half_precision.json]

Full tuning of `deepmedix`; the difference is bf16 minus 32 bits over all seeds, with its 95 % interval and p value.
"""  # noqa: E501

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import finish, machine

from bench.measure.statistics.pooled import Paired, difference
from bench.store.cells import StoredCell
from bench.store.predictions import paired, read_predictions
from bench.store.run import Run

PRECISIONS = ("32", "bf16")


def bench(*arguments: str) -> None:
    """One command, in a process of its own."""
    ended = subprocess.run([sys.executable, "-m", "bench", *arguments], text=True, check=False, stdout=sys.stderr)
    if ended.returncode:
        sys.exit(f"bench {' '.join(arguments)} ended with {ended.returncode}")


def of_precision(run: Path, precision: str) -> dict[int, StoredCell]:
    """The finished cells of a precision by seed."""
    cells = (cell for cell in Run.open(run).cells() if cell.status == "done")
    return {cell.spec["seed"]: cell for cell in cells if cell.spec["protocol"]["precision"] == precision}


def measured(asked: argparse.Namespace, run: Path) -> dict[str, Any]:
    """Run the cells, in turns of seeds, and compare them."""
    fields = {"image_size": asked.size, "epochs": asked.epochs, "weights": f'"{asked.weights.resolve()}"'}
    seconds = dict.fromkeys(PRECISIONS, 0.0)
    for seed in range(asked.seeds):
        for precision in PRECISIONS:
            chosen = [word for item in fields.items() for word in ("--set", "=".join(map(str, item)))]
            started = time.perf_counter()
            bench("run", "--models", "deepmedix", "--datasets", "figshare-brain", "--regimes", "centralized",
                  "--timing", "off", "--progress", "none", "--out", str(run), "--seeds", f"{seed},",
                  "--set", f'precision="{precision}"', *chosen)  # fmt: skip
            seconds[precision] += time.perf_counter() - started
    plain, half = (of_precision(run, precision) for precision in PRECISIONS)
    pairs = [paired(read_predictions(half[seed]), read_predictions(plain[seed])) for seed in plain]
    parts = [pair for pair in pairs if isinstance(pair, Paired)]
    classes = [str(name) for name in next(iter(plain.values())).result["data"]["classes"]]  # type: ignore[index]
    rows = [
        {"seed": seed, "precision": precision, "accuracy": cell.result["metrics"]["accuracy"],  # type: ignore[index]
         "roc_auc": cell.result["metrics"]["roc_auc"], "notes": cell.result["notes"]}  # type: ignore[index]
        for precision, cells in zip(PRECISIONS, (plain, half), strict=True)
        for seed, cell in cells.items()
    ]  # fmt: skip
    found = {name: vars(difference(name, parts, classes)) for name in ("accuracy", "roc_auc")}
    return {
        "cells": rows,
        "bf16_minus_32": found,
        "seconds": seconds,
        "images": sum(len(part.labels) for part in parts),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, 32 px")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.size, asked.epochs, asked.seeds = 32, 1, 1
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["BENCH_HOME"], os.environ["BENCH_CACHE"] = f"{temporary}/home", f"{temporary}/cache"
        bench("data", "add", "figshare-brain", str(asked.data))
        found = measured(asked, Path(temporary) / "run")
    settings = {"size": asked.size, "epochs": asked.epochs, "seeds": asked.seeds, "split": "grouped"}
    finish({"settings": settings, **found, "machine": machine()}, asked.out)
    gap = found["bf16_minus_32"]["accuracy"]
    print(f"bf16 minus 32 bits, accuracy: {100 * gap['value']:+.2f} points "
          f"[{100 * gap['low']:+.2f}, {100 * gap['high']:+.2f}], p {gap['p']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
