"""What the machine and its software are, written beside every run."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench
from bench.core.identity import digest
from bench.core.paths import cache, home

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "fvcore",
    "flwr",
    "optuna",
    "ray",
    "wandb",
    "timm",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "statsmodels",
)


def environment() -> dict[str, Any]:
    """Versions, processor, memory and GPUs; `digest` identifies the whole."""
    found = {
        "bench": bench.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        **_torch(),
    }
    return {**found, "digest": digest(found)}


@lru_cache(maxsize=1)
def machine() -> dict[str, Any]:
    """What a cell's times depend on: processor, cores and GPUs, and the digest of the whole environment."""
    found = environment()
    return {**{name: found[name] for name in ("processor", "cores", "gpus")}, "environment": found["digest"]}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    import psutil

    return round(psutil.virtual_memory().total / 2**30, 1)


def _torch() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "gpus": gpus, "cuda": torch.version.cuda if gpus else None}


def diagnosis() -> dict[str, Any]:
    """What this machine has, and where things are."""
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints"
    folders = {"data": home(), "cache": cache(), "weights": weights}
    return {**environment(), **{name: f"{path} ({_size(path)})" for name, path in folders.items()}, "disk": _free()}


def _size(path: Path) -> str:
    if not path.is_dir():
        return "not there yet"
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{total / 2**20:,.0f} MiB"


def _free() -> str:
    usage = shutil.disk_usage(Path.cwd())
    return f"{usage.free / 2**30:,.0f} of {usage.total / 2**30:,.0f} GiB free here"
