"""Where fetched datasets lie."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from bench.core.paths import home

MARKER = ".complete.json"
"""The file that a dataset's folder holds once everything in it was brought and checked."""


def target_folder(name: str) -> Path:
    """The folder in which a dataset is to lie once it is fetched."""
    return home() / "fetched" / quote(name, safe="")


def fetched_folder(name: str) -> Path | None:
    """The folder of a dataset that was fetched completely, or None."""
    folder = target_folder(name)
    return folder if (folder / MARKER).is_file() else None
