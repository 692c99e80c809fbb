"""How long preparing HAM10000 takes against decoding it and nothing else, by the same library on the same cores.

    python benchmarks/prepare_ham10000.py FOLDER [--size 224] [--full-size]

FOLDER holds `HAM10000_metadata.csv` and the images. `--full-size` is for a machine that has only a reduced copy: it
first writes a stand-in for the distribution into a temporary folder, enlarged to its 600 x 450 and with noise and a
JPEG quality that bring the files to its 270 kB or so (2.7 GB for 10015 images).

Pure decoding reads every file and decodes it with torchvision, in as many threads as preparing uses, and keeps
nothing. Preparing is `images` of bench/data/images/cache.py on an empty cache: read, decode, resize, write, fsync. The
scan that `load` makes beforehand (checksums, damaged files; remembered until a file changes) is stated by itself. The
images go
through in twenty slices, decoded and prepared in turn, so that a busy machine hits both alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

SLICES = 20


def enlarged(source: Path, target: Path) -> None:
    target.mkdir()
    (target / "HAM10000_metadata.csv").write_bytes((source / "HAM10000_metadata.csv").read_bytes())

    def enlarge(path: Path) -> None:
        with Image.open(path) as image:
            pixels = np.asarray(image.resize((600, 450), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = pixels + 6 * np.random.default_rng(len(path.name)).standard_normal(pixels.shape, dtype=np.float32)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(target / path.name, quality=98, subsampling=0)

    with ThreadPoolExecutor() as pool:
        list(pool.map(enlarge, source.rglob("ISIC_*.jpg")))


@contextmanager
def timed(spent: list[float]) -> Iterator[None]:
    """Add the block's wall-clock and processor seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    spent[0] += time.perf_counter() - clock
    spent[1] += time.process_time() - processor


def measure(folder: Path, size: int) -> None:
    from bench.core.config import Protocol
    from bench.core.paths import cache
    from bench.data.images.cache import images, in_threads, resized
    from bench.data.images.files import decode
    from bench.data.sources.isic import read_ham10000

    start = time.perf_counter()
    table = read_ham10000(folder, Protocol())
    scan = time.perf_counter() - start
    paths = {path.stem: path for path in folder.rglob("ISIC_*.jpg")}
    resized(decode(next(iter(paths.values()))), size)  # the imports are nobody's time
    threads = os.cpu_count() or 1
    pure, whole = [0.0, 0.0], [0.0, 0.0]
    for rows in np.array_split(np.arange(len(table)), SLICES):
        part = table.select(rows)
        files = [paths[str(name)] for name in part.ids]
        with timed(pure):
            deque(in_threads(decode, files, threads), 0)
        with timed(whole):
            images(part, size)
    first, mean = table.images.read(0).shape, statistics.mean(path.stat().st_size for path in paths.values())
    print(f"{len(table)} images of {first[1]} x {first[0]}, {mean / 1000:.0f} kB a file, to {size} x {size}")
    for name, unit in (("wall clock", 0), ("processor time", 1)):
        ratio = whole[unit] / pure[unit]
        print(f"{name}: decoding {pure[unit]:.1f} s, preparing {whole[unit]:.1f} s, ratio {ratio:.3f}")
    print(f"reading tables and scanning the files for the first time: {scan:.2f} s; cache in {cache()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BENCH_CACHE"] = f"{scratch}/cache"
        folder = options.folder.resolve()
        if options.full_size:
            enlarged(folder, Path(scratch) / "full")
            folder = Path(scratch) / "full"
        measure(folder, options.size)


if __name__ == "__main__":
    main()
