"""Every image decoded and resized once, kept as one memory-mapped uint8 array.

Resampling: bilinear with antialiasing, straight to a square (the aspect ratio is not kept, as the paper's input is
square), by torchvision v2 on uint8: within one gray level of Pillow's. Gray images fill three channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.atomic import replacing
from bench.core.paths import cache
from bench.data.table import Pixels, Table, read_at

Images = np.memmap[Any, np.dtype[np.uint8]]
_VERSION = 1
_BLOCK = 32


def images(
    table: Table, size: int, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> Images:
    """The table's images, uint8 [N, size, size, 3], decoded now or taken from the cache.

    Two processes may ask at once: one decodes, the other waits for the lock and maps the same file.

    Args:
        progress: called with (images done, images in all) now and then.
        workers: decoding threads; as many as cores by default.

    Raises:
        UserError: when an image cannot be decoded or the disk is full.
    """
    from filelock import FileLock

    folder = cache() / "images" / f"{table.fingerprint()}-{size}"
    pixels, index = folder / f"pixels-v{_VERSION}.u8", folder / "index.parquet"
    shape = (len(table), size, size, 3)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not _whole(pixels, index, shape):
            _write_pixels(table, size, pixels, progress, workers or os.cpu_count() or 1)
            _write_index(table, index)
    return np.memmap(pixels, dtype=np.uint8, mode="r", shape=shape)


def _whole(pixels: Path, index: Path, shape: tuple[int, ...]) -> bool:
    return index.is_file() and pixels.is_file() and pixels.stat().st_size == int(np.prod(shape))


def _write_pixels(
    table: Table, size: int, path: Path, progress: Callable[[int, int], None] | None, workers: int
) -> None:
    blocks = [range(start, min(start + _BLOCK, len(table))) for start in range(0, len(table), _BLOCK)]
    done = 0
    # Written through the file, not a memory map, so that a full disk is an error and no bus error.
    with replacing(path) as temporary, temporary.open("wb") as file, ThreadPoolExecutor(workers) as pool:
        for block, data in zip(blocks, pool.map(lambda rows: _block(table, rows, size), blocks), strict=True):
            file.write(data)
            done += len(block)
            if progress:
                progress(done, len(table))


def _block(table: Table, rows: range, size: int) -> bytes:
    return b"".join(resized(read_at(table.images, row, size), size).tobytes() for row in rows)


def resized(image: Pixels, size: int) -> Pixels:
    """An image [H, W] or [H, W, 3] as [size, size, 3]; gray is repeated over the channels."""
    if image.shape[:2] != (size, size):
        image = _resample(image, size)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _resample(image: Pixels, size: int) -> Pixels:
    import torch
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    # A writable copy only where needed: torch warns about arrays that it may not write to.
    source = torch.from_numpy(image if image.flags.writeable else image.copy())
    channels = source[None] if image.ndim == 2 else source.permute(2, 0, 1)
    small = resize(channels, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    pixels: Pixels = small[0].numpy() if image.ndim == 2 else small.permute(1, 2, 0).numpy()
    return pixels


def _write_index(table: Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: getattr(table, name).tolist() for name in ("ids", "labels", "groups", "sites")}
    with replacing(path) as temporary:
        pq.write_table(pa.table({**columns, "checksum": table.checksums.tolist()}), temporary)
