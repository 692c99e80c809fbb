"""Every image decoded and resized once, kept as one memory-mapped uint8 array.

Resampling: bilinear with antialiasing, straight to a square (the aspect ratio is not kept, as the paper's input is
square), by torchvision v2 on uint8: within one gray level of Pillow's. Gray images fill three channels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.core.atomic import replacing, sweep_temporaries, write_bytes
from bench.core.paths import cache
from bench.data.table import Pixels, Table, read_at

T = TypeVar("T")
R = TypeVar("R")
Images = np.memmap[Any, np.dtype[np.uint8]]
_VERSION = 1
_BLOCK = 16


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
    pixels, _ = _files(table, size)
    for entry in pixels.parent.parent.glob("*"):
        sweep_temporaries(entry, lambda _, entry=entry: entry / "lock")  # type: ignore[misc]
    with _filling(table, size) as missing:
        if missing:
            _write_pixels(table, size, pixels, progress, workers or os.cpu_count() or 1)
    return np.memmap(pixels, dtype=np.uint8, mode="r", shape=_shape(table, size))


def are_cached(table: Table, size: int) -> bool:
    """Whether the table's images were decoded at this size before."""
    pixels, index = _files(table, size)
    return index.is_file() and pixels.is_file() and pixels.stat().st_size == int(np.prod(_shape(table, size)))


def keep(table: Table, size: int, pixels: Pixels) -> None:
    """Put images that were decoded elsewhere, uint8 [N, size, size, 3], into this cache.

    Args:
        table: whose images they are, in its order.
        size: their side in pixels.
        pixels: the images.

    Raises:
        ValueError: they are of another shape.
    """
    if pixels.shape != _shape(table, size) or pixels.dtype != np.uint8:
        raise ValueError(
            f"{table.name}: images {pixels.dtype}{list(pixels.shape)}, not uint8{list(_shape(table, size))}"
        )
    with _filling(table, size) as missing:
        if missing:
            write_bytes(_files(table, size)[0], np.ascontiguousarray(pixels).data)


def _files(table: Table, size: int) -> tuple[Path, Path]:
    folder = cache() / "images" / f"{table.fingerprint()}-{size}"
    return folder / f"pixels-v{_VERSION}.u8", folder / "index.parquet"


def _shape(table: Table, size: int) -> tuple[int, ...]:
    return (len(table), size, size, 3)


@contextmanager
def _filling(table: Table, size: int) -> Iterator[bool]:
    """Hold an entry's lock; yields whether its pixels are missing, and adds the index once the block wrote them."""
    from filelock import FileLock

    pixels, index = _files(table, size)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(pixels.parent / "lock"):
        missing = not are_cached(table, size)
        yield missing
        if missing:
            _write_index(table, index)


def _write_pixels(
    table: Table, size: int, path: Path, progress: Callable[[int, int], None] | None, workers: int
) -> None:
    blocks = [range(start, min(start + _BLOCK, len(table))) for start in range(0, len(table), _BLOCK)]
    done = 0
    # Written through the file, not a memory map, so that a full disk is an error and no bus error.
    with replacing(path) as temporary, temporary.open("wb") as file:
        for pixels in in_threads(lambda rows: _block(table, rows, size), blocks, workers):
            file.write(pixels.data)
            done += len(pixels)
            if progress:
                progress(done, len(table))


def in_threads(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Results in order, a few items ahead of the consumer, each in a thread where torch uses one core.

    Torch's own threads would fight with these over the same cores.

    Args:
        work: called with one item.
        items: what is to be worked on.
        workers: threads, of one core each.
    """
    import torch

    before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            waiting = deque(pool.submit(work, item) for item in items[: 2 * workers])
            for following in range(2 * workers, len(items) + 2 * workers):
                if not waiting:
                    return
                result = waiting.popleft().result()
                if following < len(items):
                    waiting.append(pool.submit(work, items[following]))
                yield result
        finally:
            torch.set_num_threads(before)


def _block(table: Table, rows: range, size: int) -> Pixels:
    """The images of some rows, resized, [len(rows), size, size, 3]."""
    return stacked([read_at(table.images, row, size) for row in rows], size)


def stacked(images: Sequence[Pixels], size: int) -> Pixels:
    """Images [H, W] or [H, W, 3] of any sizes as one array [N, size, size, 3]; gray is repeated over the channels."""
    block = np.empty((len(images), size, size, 3), np.uint8)
    # Those of one shape go through together.
    for shape in {image.shape for image in images}:
        members = [index for index, image in enumerate(images) if image.shape == shape]
        small = _resample(np.stack([images[index] for index in members]), size)
        block[members] = small if small.ndim == 4 else small[..., None]
    return block


def resized(image: Pixels, size: int) -> Pixels:
    """An image [H, W] or [H, W, 3] as [size, size, 3]; gray is repeated over the channels."""
    small = _resample(image[None], size)[0]
    return small if small.ndim == 3 else np.repeat(small[:, :, None], 3, axis=2)


def _resample(images: Pixels, size: int) -> Pixels:
    """Images of one shape, [N, H, W] or [N, H, W, 3], at `size`."""
    if images.shape[1:3] == (size, size):
        return images
    import torch
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    # Two of one are half as dear as one: torch takes its fast way only for a true batch of interleaved colours.
    batch = images if len(images) > 1 else np.repeat(images, 2, axis=0)
    source = torch.from_numpy(batch)
    channels = source[:, None] if images.ndim == 3 else source.permute(0, 3, 1, 2)
    small = resize(channels, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    pixels: Pixels = small[:, 0].numpy() if images.ndim == 3 else small.permute(0, 2, 3, 1).numpy()
    return pixels[: len(images)]


def _write_index(table: Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: getattr(table, name).tolist() for name in ("ids", "labels", "groups", "sites")}
    with replacing(path) as temporary:
        pq.write_table(pa.table({**columns, "checksum": table.checksums.tolist()}), temporary)
