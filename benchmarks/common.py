"""What the benchmark scripts share: sides timed in turns, the machine that they ran on, and the files they leave."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "onnx", "onnxruntime", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, torch's threads, versions, and how busy others keep it just now (load of the last minute)."""
    import torch

    from bench.harness.environment import diagnosis
    from bench.harness.networks import bf16_instructions

    about = {name: diagnosis()[name] for name in ("processor", "cores", "python")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    here = {"threads": torch.get_num_threads(), "bf16_instructions": bf16_instructions(), "gpu": gpu}
    return {**about, **here, "versions": versions(), "load_average": os.getloadavg()[0]}


def versions() -> dict[str, str]:
    """Of the packages whose speed is measured; "absent" for those that are not there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def in_turns(sides: Mapping[str, Callable[[], object]], repetitions: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each side by repetition: every side once a round, the order turned from round to round.

    Args:
        warmup: unmeasured calls of each side before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in sides.items():
        for _ in range(warmup):
            side()
        print(f"warmed up: {name}", file=sys.stderr)
    names = list(sides)
    for number in range(repetitions):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def rates(seconds: Mapping[str, Sequence[float]], images: int) -> dict[str, dict[str, Any]]:
    """By side: images a second by the median and by the fastest repetition, and all the seconds."""
    return {
        name: {"images_per_s": images / statistics.median(values), "fastest": images / min(values),
               "seconds": [round(value, 4) for value in values]}
        for name, values in seconds.items()
    }  # fmt: skip


def ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> dict[str, float]:
    """How many times as fast one side is as another: the median over rounds of their ratios, and that of the fastest.

    Rounds are paired, so that a machine that drifts changes neither; `low` and `high` are the extreme rounds.
    """
    each = [one / other for one, other in zip(seconds[slow], seconds[fast], strict=True)]
    best = min(seconds[slow]) / min(seconds[fast])
    return {"ratio": statistics.median(each), "of_fastest": best, "low": min(each), "high": max(each)}


def goal(name: str, found: Mapping[str, float], least: float) -> dict[str, Any]:
    """A ratio beside what is wanted of it, printed."""
    holds = found["ratio"] >= least
    verdict = "holds" if holds else "FALLS SHORT"
    rounds = f"rounds {found['low']:.2f} to {found['high']:.2f}, of the fastest {found['of_fastest']:.2f}"
    print(f"{verdict}: {name}: {found['ratio']:.2f} ({rounds}), wanted {least:g}")
    return {"name": name, **found, "wanted": least, "holds": holds}


def finish(found: Mapping[str, Any], out: Path | None) -> None:
    """Print the findings as JSON, and write them where asked."""
    text = json.dumps(found, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
