"""Where the harness keeps what belongs to the user and not to one run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs

_APP = "deepmedix-bench"


def home() -> Path:
    """Added and fetched datasets: `$BENCH_HOME`, or the platform's folder for user data."""
    return Path(os.environ.get("BENCH_HOME") or platformdirs.user_data_dir(_APP))


def cache() -> Path:
    """Decoded images and feature maps, which can be made again: `$BENCH_CACHE`, or the platform's cache folder."""
    return Path(os.environ.get("BENCH_CACHE") or platformdirs.user_cache_dir(_APP))


def shown(path: Path | str) -> str:
    """A path as text that every file can hold: bytes of a name that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def torch_hub() -> Path:
    """Where torch keeps published weights: its own folder where it is loaded, and by its own rule where it is not."""
    if "torch" in sys.modules:
        return Path(sys.modules["torch"].hub.get_dir())
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", caches / "torch")).expanduser() / "hub"
