"""Fetched datasets."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from bench.core.paths import home

_MARKER = ".complete.json"


def fetched_folder(name: str) -> Path | None:
    """The folder of a dataset that was fetched completely, or None."""
    folder = home() / "fetched" / quote(name, safe="")
    return folder if (folder / _MARKER).is_file() else None
