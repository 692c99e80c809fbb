"""What the intervals of every quality column cost on a large test set, and the most memory that they take.

    python benchmarks/large_test_set.py [--images 60000] [--runs 3] [--out benchmarks/results/large_test_set.json]

Drawn answers of a classifier of seven classes, 20,000 patients of three images. Each run is a process of its own; its
memory is the most that was resident at any time, less what was resident before the statistics began (with everything
imported). The digest is of every bound to the last bit: with the same versions on the same processor it is the same
from run to run, and `--images 600` gives the digest of a small set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import finish, machine

MOST_SECONDS, MOST_GB = 5.0, 1.0
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def measured(images: int) -> dict[str, Any]:
    """Seconds of the clock and of the processor, and memory, in this process."""
    import numpy as np

    from bench.measure.quality import intervals, quality

    draw = np.random.default_rng(0)
    labels = draw.choice(len(CLASSES), images, p=[0.03, 0.05, 0.11, 0.01, 0.11, 0.67, 0.02])
    scores = draw.normal(size=(images, len(CLASSES))) + 2 * np.eye(len(CLASSES))[labels]
    probabilities = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)
    groups = np.array([f"patient {number // 3}" for number in range(images)])
    quality(labels[:50], probabilities[:50], CLASSES)
    intervals(labels[:50], probabilities[:50], groups[:50], CLASSES)
    before, clock, processor = _most_resident(), time.perf_counter(), time.process_time()
    bounds = intervals(labels, probabilities, groups, CLASSES)
    found = {"seconds": time.perf_counter() - clock, "processor_s": time.process_time() - processor}
    text = json.dumps({name: [float(end).hex() for end in ends] for name, ends in sorted(bounds.items())})
    return found | {"gb": _most_resident() - before, "columns": len(bounds), "digest": _digest(text)}


def _most_resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> None:
    """Measure in processes of their own, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.images)))
        return
    command = [sys.executable, __file__, "--one", "--images", str(asked.images)]
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(asked.runs)]  # fmt: skip
    middle = {name: statistics.median(run[name] for run in runs) for name in ("seconds", "processor_s", "gb")}
    alike = len({run["digest"] for run in runs}) == 1
    # The processor's seconds are what a quiet machine's clock would say: one thread does the work.
    holds = middle["processor_s"] <= MOST_SECONDS and middle["gb"] <= MOST_GB and alike
    print("holds" if holds else "FALLS SHORT", file=sys.stderr)
    wanted = {"seconds": MOST_SECONDS, "gb": MOST_GB}
    finish({"machine": machine(), "images": asked.images, **middle, "wanted": wanted, "holds": holds,
            "bits_alike": alike, "runs": runs}, asked.out)  # fmt: skip


if __name__ == "__main__":
    main()
