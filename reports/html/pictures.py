"""Small pictures of test images for a page, from the decoded cache where this machine has it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.paths import cache
from bench.core.schema import read_table, validated
from bench.store.cells import StoredCell

SIDE = 96
_AGAIN = "delete its folder to decode the images again"


@with_config(ConfigDict(extra="allow"))
class _Index(TypedDict):
    ids: list[str]


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
    size = int(folder.name.rpartition("-")[2])
    pixels = np.memmap(_pixels(folder), dtype=np.uint8, mode="r").reshape(-1, size, size, 3)
    known = {name: place for place, name in enumerate(_ids(folder))}
    if len(known) != len(pixels):
        return {}
    return {name: _address(pixels[known[name]], side) for name in ids if name in known}


def _ids(folder: Path) -> list[str]:
    """The images' ids in the order of their pixels; none where the index is damaged."""
    index = folder / "index.parquet"
    try:
        rows = read_table(index, _AGAIN).to_pydict()
        return validated(index, rows, _Index, _AGAIN)["ids"]
    except UserError:
        return []


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
    if not (folder / "index.parquet").is_file() or not size.isdecimal() or int(size) == 0:
        return False
    pixels = [path.stat().st_size for path in sorted(folder.glob("pixels-*.u8")) if path.is_file()][-1:]
    return any(length and length % (3 * int(size) ** 2) == 0 for length in pixels)


def _pixels(folder: Path) -> Path:
    return sorted(path for path in folder.glob("pixels-*.u8") if path.is_file())[-1]


def _address(pixels: Any, side: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).resize((side, side)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
