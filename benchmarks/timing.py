"""Whether two runs of the same timing agree: each model's medians, their ratio, and whether the intervals overlap.

    python benchmarks/timing.py [MODELS] [--size 64] [--batch 8] [--tuning full] [--mode quick] [--out FILE]

Twenty models unless others are named. Both runs are made in one job, each in a process of its own. A pair agrees where
its medians are within 5 %, or where the difference lies within the intervals of the two rows together. Wanted: all
within 5 % on an idle machine, or 95 of 100 differences covered by the intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import finish, machine

MODELS = (
    "deepmedix*,mobilenet_v2,mobilenet_v3_small,mobilenet_v3_large,efficientnet_b0,efficientnet_lite0,squeezenet1_1,"
    "shufflenet_v2_x1_0,mnasnet1_0,resnet18,resnet50,densenet121"
)
COLUMNS = ("train_batch_ms", "head_train_batch_ms", "infer_batch_ms")
WITHIN, COVERED = 0.05, 0.95


def profile(models: str, settings: list[str], mode: str) -> tuple[list[dict[str, Any]], float]:
    """The rows of `bench profile`, and its seconds."""
    chosen = [word for field in settings for word in ("--set", field)]
    arguments = [sys.executable, "-m", "bench", "profile", models, "--timing", mode, "--json", *chosen]
    started = time.perf_counter()
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout), time.perf_counter() - started


def compared(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each time that both have."""
    rows = []
    for column in COLUMNS:
        if first.get(column) and second.get(column):
            ratio = second[column] / first[column]
            reach = math.hypot(*((row[f"{column}_high"] - row[f"{column}_low"]) / 2 for row in (first, second)))
            covered = abs(second[column] - first[column]) <= reach
            rows.append(
                {"model": first["model"], "column": column, "first_ms": first[column], "second_ms": second[column]}
                | {"ratio": ratio, "within": abs(ratio - 1) <= WITHIN, "covered": covered}
                | {"machine_busy": max(first["machine_busy"], second["machine_busy"])}
            )
    return rows


def main() -> None:
    """Measure twice, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="?", default=MODELS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tuning", default="full")
    parser.add_argument("--mode", default="quick", choices=("quick", "full"))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings = [f"image_size={asked.size}", f"timing_batch_size={asked.batch}", f"tuning={asked.tuning}"]
    about = machine()
    (first, before), (second, after) = (profile(asked.models, settings, asked.mode) for _ in range(2))
    by_name = {row["model"]: row for row in second}
    pairs = [pair for row in first for pair in compared(row, by_name[row["model"]])]
    shares = {kind: sum(pair[kind] for pair in pairs) / len(pairs) for kind in ("within", "covered")}
    holds = shares["within"] == 1 or shares["covered"] >= COVERED
    print(f"{'holds' if holds else 'FALLS SHORT'}: {shares['within']:.0%} within 5 %, {shares['covered']:.0%} covered",
          file=sys.stderr)  # fmt: skip
    found = {"machine": about, "settings": [*settings, f"mode={asked.mode}"], "models": len(first)}
    finish({**found, "seconds": [before, after], **shares, "holds": holds, "pairs": pairs}, asked.out)


if __name__ == "__main__":
    main()
