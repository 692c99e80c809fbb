"""Where the harness keeps what belongs to the user and not to one run."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "deepmedix-bench"


def home() -> Path:
    """Added and fetched datasets: `$BENCH_HOME`, or the platform's folder for user data."""
    return Path(os.environ.get("BENCH_HOME") or platformdirs.user_data_dir(_APP))


def cache() -> Path:
    """Decoded images and feature maps, which can be made again: `$BENCH_CACHE`, or the platform's cache folder."""
    return Path(os.environ.get("BENCH_CACHE") or platformdirs.user_cache_dir(_APP))
