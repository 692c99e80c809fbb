"""What the machine and its software are, written beside every run."""

from __future__ import annotations

import importlib.util
import os
import platform
import runpy
import shutil
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bench
from bench.core.identity import digest
from bench.core.paths import cache, home, torch_hub

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
    found = {**_software(), **_torch()}
    return {**found, "digest": digest(found)}


def _software() -> dict[str, Any]:
    return {
        "bench": bench.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }


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
    """What this machine has, and where things are, without loading torch: GPUs are those that the driver names."""
    folders = {"data": home(), "cache": cache(), "weights": torch_hub() / "checkpoints"}
    sizes = {name: f"{path} ({_size(path)})" for name, path in folders.items()}
    return {**_software(), "gpus": _gpus_of_the_driver(), "cuda": _cuda_of_torch(), **sizes, "disk": _free()}


def _gpus_of_the_driver() -> list[str]:
    """The names of the NVIDIA GPUs that the kernel's driver drives."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]


def _cuda_of_torch() -> str | None:
    """The CUDA version that the installed torch was built for, read from its file of versions."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    version: str | None = runpy.run_path(str(Path(found.origin).with_name("version.py")))["cuda"]
    return version


def _size(path: Path) -> str:
    if not path.is_dir():
        return "not there yet"
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{total / 2**20:,.0f} MiB"


def _free() -> str:
    usage = shutil.disk_usage(Path.cwd())
    return f"{usage.free / 2**30:,.0f} of {usage.total / 2**30:,.0f} GiB free here"
