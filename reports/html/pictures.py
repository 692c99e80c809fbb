"""Small pictures of test images for a page, from the decoded cache where this machine has it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.paths import cache
from bench.store.cells import StoredCell

SIDE = 96


def pictures(cell: StoredCell, ids: Iterable[str], side: int = SIDE) -> dict[str, str]:
    """`data:` addresses of images by id; empty where the cache does not hold this dataset at this size.

    Args:
        cell: whose test images they are.
        ids: of the images.
        side: of a picture, in pixels.
    """
    folder = _folder(cell)
    if folder is None:
        return {}
    import pyarrow.parquet as pq

    known = {
        name: place for place, name in enumerate(pq.read_table(folder / "index.parquet").column("ids").to_pylist())
    }
    size = int(folder.name.rpartition("-")[2])
    pixels = np.memmap(_pixels(folder), dtype=np.uint8, mode="r").reshape(-1, size, size, 3)
    return {name: _address(pixels[known[name]], side) for name in ids if name in known}


def _folder(cell: StoredCell) -> Path | None:
    """The cache folder of a cell's images: at the cell's own size, else at any."""
    result = cell.result or {}
    fingerprint, size = result["data"].get("fingerprint"), result["cost"].get("image_size")
    root = cache() / "images"
    candidates = [root / f"{fingerprint}-{size}", *sorted(root.glob(f"{fingerprint}-*"))]
    return next((folder for folder in candidates if _whole(folder)), None)


def _whole(folder: Path) -> bool:
    """Whether the pixels are all there: the folder's name tells the size of each."""
    size = folder.name.rpartition("-")[2]
    if not (folder / "index.parquet").is_file() or not size.isdecimal():
        return False
    return any(path.stat().st_size % (3 * int(size) ** 2) == 0 for path in folder.glob("pixels-*.u8"))


def _pixels(folder: Path) -> Path:
    return sorted(folder.glob("pixels-*.u8"))[-1]


def _address(pixels: Any, side: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).resize((side, side)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
