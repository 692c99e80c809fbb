"""Image files: which can be used, by a stated rule, and how they are decoded.

The rule, applied to every file before training: it opens as a picture, is not cut off, its sides are at least
`MIN_SIDE` pixels, it has at most `MAX_PIXELS` pixels and `MAX_BYTES` bytes. A file that fails is skipped, counted and
listed in the table's notes; when more than `MAX_BAD_SHARE` of the files fail, the dataset is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from typing_extensions import TypedDict

from bench.core.atomic import replacing
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.paths import cache, shown
from bench.core.schema import read_bytes, read_table, validated
from bench.data.table import Pixels

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}
# Pillow's other readers are not asked: some start programs (EPS Ghostscript), all are more to be attacked by.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
MIN_SIDE = 8
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 2**20
MAX_BAD_SHARE = 0.2
_AGAIN = "delete it to look at the files again"
_COLUMNS = ("path", "size", "changed", "checksum", "width", "height", "problem")


@dataclass(frozen=True)
class Facts:
    """What a scan knows of a file; `problem` is "" for a file that can be used."""

    path: str
    size: int
    changed: int
    checksum: str
    width: int
    height: int
    problem: str


class _Fact(TypedDict):
    path: str
    size: int
    changed: int
    checksum: str
    width: int
    height: int
    problem: str


@dataclass(frozen=True)
class FileImages:
    """Images that lie in files of their own."""

    paths: tuple[Path, ...]
    checksums: tuple[str, ...]
    root: Path

    def read(self, index: int) -> Pixels:
        """Decode the file at a row.

        Raises:
            UserError: when it cannot be decoded, which the scan did not see; the next scan will skip it.
        """
        try:
            return decode(self.paths[index])
        except UserError as error:
            mark_unreadable(self.paths[index], self.root, "cannot be decoded")
            raise UserError(f"{error}; it is skipped from the next start on") from error

    def checksum(self, index: int) -> str:
        """The digest of the file's bytes."""
        return self.checksums[index]


def decode(path: Path) -> Pixels:
    """Decode a file to uint8 [H, W] or [H, W, 3]; EXIF orientation is ignored, transparency dropped.

    JPEG goes through torchvision (measured: a third faster than Pillow, equal pixels), everything else through Pillow.

    Raises:
        UserError: when the file is missing or cannot be decoded.
    """
    try:
        data = read_bytes(path, "name another picture", MAX_BYTES)
        return _decode_jpeg(data) if data[:3] == b"\xff\xd8\xff" else _decode_other(data)
    except (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot decode {path}: {str(error).splitlines()[0] if str(error) else 'damaged'}") from error


def _decode_jpeg(data: bytes) -> Pixels:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        # frombuffer warns that bytes cannot be written to; the decoder only reads.
        warnings.simplefilter("ignore", UserWarning)
        encoded = torch.frombuffer(data, dtype=torch.uint8)
    image = decode_jpeg(encoded, mode=ImageReadMode.UNCHANGED)
    if image.shape[0] not in (1, 3):
        return _decode_other(data)
    pixels: Pixels = image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
    return pixels


def _decode_other(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
        if image.mode in ("I;16", "I", "I;16B"):
            wide = np.asarray(image, dtype=np.int64)
            return (np.clip(wide, 0, 65535) >> 8).astype(np.uint8)
        return np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))


def scan(paths: Sequence[Path], root: Path) -> list[Facts]:
    """Look at every file once; what is known of an unchanged file (path, size, time) is taken from the cache.

    Raises:
        UserError: when a file cannot be looked at (permissions).
    """
    store = cache() / "scans" / f"{digest(str(root.resolve()))}.parquet"
    known = _stored(store)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        facts = list(pool.map(lambda path: _look(path, known), paths))
    if any(known.get(fact.path) != fact for fact in facts):
        _save(store, {**known, **{fact.path: fact for fact in facts}})
    return facts


def mark_unreadable(path: Path, root: Path, problem: str) -> None:
    """Remember a file that only full decoding shows to be damaged, so that the next scan skips it.

    Args:
        path: the damaged file.
        root: the dataset's folder, by which the scan is kept in the cache.
        problem: what is wrong with it, in words.
    """
    store = cache() / "scans" / f"{digest(str(root.resolve()))}.parquet"
    known = _stored(store)
    fact = _look(path, known)
    _save(store, {**known, fact.path: replace(fact, problem=problem)})


def _look(path: Path, known: dict[str, Facts]) -> Facts:
    if shown(path) != str(path):
        return Facts(shown(path), -1, -1, "", 0, 0, "has a name that is not UTF-8 text")
    try:
        status = path.stat()
    except OSError as error:
        return Facts(str(path), -1, -1, "", 0, 0, f"cannot be opened ({error.strerror})")
    before = known.get(str(path))
    if before and (before.size, before.changed) == (status.st_size, status.st_mtime_ns):
        return before
    return _examine(path, status.st_size, status.st_mtime_ns)


def _examine(path: Path, size: int, changed: int) -> Facts:
    def bad(problem: str, checksum: str = "", width: int = 0, height: int = 0) -> Facts:
        return Facts(str(path), size, changed, checksum, width, height, problem)

    if size == 0:
        return bad("is empty")
    if size > MAX_BYTES:
        return bad(f"has {size} bytes, more than {MAX_BYTES}")
    try:
        data = path.read_bytes()
    except OSError as error:
        return bad(f"cannot be opened ({error.strerror})")
    checksum = hashlib.blake2b(data, digest_size=16).hexdigest()
    width, height, problem = _picture(data)
    return bad(problem, checksum, width, height)


def _picture(data: bytes) -> tuple[int, int, str]:
    """Width, height and what is wrong with an encoded picture, decoding it only where its end looks odd."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                problem = _size_problem(width, height)
                if not problem and not _ends_well(data):
                    image.load()
                return width, height, problem
    except UnidentifiedImageError:
        return 0, 0, "is no picture"
    except Image.DecompressionBombError:
        return 0, 0, f"is huge ({MAX_PIXELS} pixels are the most)"
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        return 0, 0, f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def _size_problem(width: int, height: int) -> str:
    if min(width, height) < MIN_SIDE:
        return f"is tiny ({width} x {height}; {MIN_SIDE} pixels a side are the least)"
    if width * height > MAX_PIXELS:
        return f"is huge ({width} x {height}; {MAX_PIXELS} pixels are the most)"
    return ""


def _ends_well(data: bytes) -> bool:
    """Whether a JPEG or PNG carries its end marker; other formats are decoded to know."""
    if data[:3] == b"\xff\xd8\xff":
        return b"\xff\xd9" in data[-64:]
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_checks(data)
    return False


def _png_checks(data: bytes) -> bool:
    import zlib

    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 8 + length]
        if zlib.crc32(body) != int.from_bytes(data[position + 8 + length : position + 12 + length], "big"):
            return False
        if body[:4] == b"IEND":
            return True
        position += 12 + length
    return False


def _stored(store: Path) -> dict[str, Facts]:
    if not store.is_file():
        return {}
    try:
        rows = validated(store, read_table(store, _AGAIN).to_pylist(), list[_Fact], _AGAIN)
    except UserError:
        # A cache that cannot be read is made again; nothing is lost with it.
        return {}
    return {row["path"]: Facts(**row) for row in rows}


def _save(store: Path, facts: dict[str, Facts]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*(astuple(fact) for fact in facts.values()), strict=True)
    with replacing(store) as temporary:
        pq.write_table(pa.table(dict(zip(_COLUMNS, map(list, columns), strict=True))), temporary)


def usable(name: str, paths: Sequence[Path], root: Path) -> tuple[FileImages, list[int], tuple[str, ...]]:
    """Which of the files can be used.

    Args:
        name: the dataset's, for messages.
        paths: the files [N].
        root: the dataset's folder.

    Returns:
        the images of the usable files, their positions in `paths`, and notes on the others.

    Raises:
        UserError: when more than `MAX_BAD_SHARE` of the files cannot be used.
    """
    facts = scan(paths, root)
    kept = [position for position, fact in enumerate(facts) if not fact.problem]
    bad = [f"{_short(fact.path, root)} {fact.problem}" for fact in facts if fact.problem]
    if len(bad) > MAX_BAD_SHARE * len(facts):
        raise UserError(
            f"dataset {name!r}: {len(bad)} of {len(facts)} images cannot be used, more than {MAX_BAD_SHARE:.0%}: "
            f"{listed(bad)}; mend or remove them"
        )
    notes = (f"{len(bad)} unusable images skipped: {listed(bad, 20)}",) if bad else ()
    images = FileImages(tuple(paths[i] for i in kept), tuple(facts[i].checksum for i in kept), root)
    return images, kept, notes


def listed(items: Sequence[str], most: int = 3) -> str:
    """The first items and how many more there are."""
    rest = len(items) - most
    return "; ".join(items[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _short(path: str, root: Path) -> str:
    root = Path(shown(root))
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def picture_files(folder: Path) -> list[Path]:
    """Every file below a folder with a picture's suffix, sorted.

    Hidden files and folders (notebook checkpoints, archive litter) are passed over; linked folders are followed once.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "." and name != "__MACOSX"]
        if real not in seen:
            found += [Path(parent, name) for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
        seen.add(real)
    return sorted(found)
