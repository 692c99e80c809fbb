"""MedMNIST v2: `medmnist:NAME` (28 pixels), `medmnist:NAME_64`, `_128` and `_224`: an npz a set, official parts."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.atomic import replacing
from bench.core.config import Protocol
from bench.core.errors import UnknownName, UserError
from bench.core.identity import digest
from bench.core.paths import cache
from bench.core.registry import near_matches
from bench.core.schema import DAMAGED, mapped_array
from bench.data.sources.medmnistinfo import INFO, RECORD, SIZES, Info
from bench.data.spec import DatasetSpec, Download
from bench.data.table import PARTS, Pixels, Table, text_column

PREFIX = "medmnist"
_CHUNK = 2**20
_AGAIN = "delete it to unpack the file again"


@dataclass(frozen=True)
class ArrayImages:
    """Images in one memory-mapped array [N, H, W] or [N, H, W, 3]."""

    arrays: tuple[NDArray[np.uint8], ...]
    checksums: NDArray[np.str_]

    def read(self, index: int) -> Pixels:
        """The image at a row of the concatenated parts."""
        for array in self.arrays:
            if index < len(array):
                return np.array(array[index])
            index -= len(array)
        raise IndexError(index)

    def checksum(self, index: int) -> str:
        """The digest of the image's pixels."""
        return str(self.checksums[index])


def resolve(name: str) -> DatasetSpec:
    """The dataset `medmnist:NAME` or `medmnist:NAME_SIZE`.

    Raises:
        UnknownName: no such 2-D set or size. UserError: a multi-label set.
    """
    info, size = _parse(name)
    stem = name.lower()
    filename = f"{stem}.npz"
    return DatasetSpec(
        f"{PREFIX}:{stem}",
        title=f"{info.title}, {size} px",
        summary=f"{sum(info.counts)} images of {len(info.classes)} classes, official parts",
        reader=lambda path, protocol: read(stem, path, protocol),
        licence=info.licence,
        citation="J. Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image "
        "classification, Scientific Data 10, 41, 2023",
        address="https://zenodo.org/records/10519652",
        hint=f"`bench data fetch {PREFIX}:{stem}`, or `bench data add {PREFIX}:{stem} {filename}`",
        kind="skin" if stem.startswith("derma") else "other",
        downloads=(Download(f"{RECORD}/{filename}?download=1", filename, f"md5:{info.md5[SIZES.index(size)]}"),),
        groups="none published: every image is its own group",
    )


def _parse(name: str) -> tuple[Info, int]:
    stem, _, size = name.lower().partition("_")
    if stem not in INFO:
        raise UnknownName(f"MedMNIST has no 2-D set {stem!r}; {near_matches(stem, INFO)}")
    if size and size not in {str(known) for known in SIZES[1:]}:
        raise UnknownName(
            f"MedMNIST has {stem} in the sizes 28 ({stem}), {', '.join(f'{stem}_{s}' for s in SIZES[1:])}"
        )
    info = INFO[stem]
    if info.multilabel:
        raise UserError(f"{PREFIX}:{stem} has several labels an image; multi-label sets are not supported")
    return info, int(size or 28)


def read(name: str, path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """Read an npz with `{train,val,test}_{images,labels}`; the file, or the folder that holds it.

    Args:
        name: of the set, "STEM" or "STEM_SIZE".
        path: of the npz, or of the folder that holds it.
        protocol: is not asked: the set has one form.

    Raises:
        UserError: not there, truncated, or with arrays of another shape or kind than the set's.
    """
    info, size = _parse(name)
    file = path / f"{name}.npz" if path.is_dir() else path
    shape = (size, size, 3) if info.channels == 3 else (size, size)
    images = [_array(name, file, f"{part}_images", shape) for part in PARTS]
    labels = [_array(name, file, f"{part}_labels", (1,)).astype(np.int64).ravel() for part in PARTS]
    for part, pictures, targets in zip(PARTS, images, labels, strict=True):
        if len(pictures) != len(targets):
            raise UserError(f"{file}: {len(pictures)} {part} images and {len(targets)} labels")
    counts = [len(pictures) for pictures in images]
    notes = (
        () if counts == list(info.counts) else (f"incomplete: {counts} images a part, expected {list(info.counts)}",)
    )
    ids = text_column(f"{part}-{row:06d}" for part, count in zip(PARTS, counts, strict=True) for row in range(count))
    return Table(
        f"{PREFIX}:{name}",
        info.classes,
        ids=ids,
        labels=np.concatenate(labels),
        groups=ids,
        sites=text_column("" for _ in ids),
        official=text_column(part for part, count in zip(PARTS, counts, strict=True) for _ in range(count)),
        images=ArrayImages(tuple(images), _checksums(file, images)),
        kind="skin" if name.startswith("derma") else "other",
        expected=sum(info.counts),
        notes=("no patient ids are published: every image is its own group", *notes),
    )


def _array(name: str, file: Path, member: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A member of the npz as a memory map, unpacked once; its header is checked before anything is unpacked."""
    target = _unpacked(file) / f"{member}.npy"
    if target.exists():
        # An unpacked copy that cannot be read is unpacked again.
        with suppress(UserError):
            return _mapped(target, shape)
    _unpack(name, file, member, shape, target)
    return _mapped(target, shape)


def _mapped(target: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    array = mapped_array(target, _AGAIN, "ui")
    if array.shape[1:] != shape:
        raise UserError(f"{target} has shape {list(array.shape)}, not [N, {', '.join(map(str, shape))}]; {_AGAIN}")
    return array


def _unpacked(file: Path) -> Path:
    try:
        status = file.stat()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return cache() / "npz" / digest([str(file.resolve()), status.st_size, status.st_mtime_ns])


def _unpack(name: str, file: Path, member: str, shape: tuple[int, ...], target: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{member}.npy") as source:
            limit = _declared_bytes(file, member, source, shape)
            with archive.open(f"{member}.npy") as again, replacing(target) as temporary:
                _copy_up_to(again, temporary, limit)
    except DAMAGED as error:
        said = " ".join(str(error).split())
        raise UserError(f"{file} is damaged or no MedMNIST file of {name} ({said}); fetch it again") from error


def _declared_bytes(file: Path, member: str, source: IO[bytes], shape: tuple[int, ...]) -> int:
    """The bytes that the header promises, after checking that it describes the set's images or labels."""
    version = np.lib.format.read_magic(source)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise UserError(f"{file}: {member} has an npy header of version {version}")
    found, _, dtype = readers[version](source)
    most = sum(max(info.counts) for info in INFO.values())
    if tuple(found[1:]) != shape or dtype.kind not in "ui" or dtype.hasobject or not 0 < found[0] <= most:
        raise UserError(f"{file}: {member} has shape {found} and type {dtype}; expected (N, {shape}) of integers")
    return source.tell() + int(np.prod(found)) * dtype.itemsize


def _copy_up_to(source: IO[bytes], target: Path, limit: int) -> None:
    """Copy a member of exactly `limit` bytes; one that goes on is refused before it fills the disk."""
    done = 0
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            done += len(chunk)
            if done > limit:
                raise ValueError("it holds more than its header says")
            file.write(chunk)
    if done != limit:
        raise ValueError("it holds less than its header says")


def _checksums(file: Path, images: list[NDArray[Any]]) -> NDArray[np.str_]:
    target = _unpacked(file) / "checksums.npy"
    count = sum(len(part) for part in images)
    if target.exists():
        with suppress(UserError):
            return _stored_checksums(target, count)
    sums = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for part in images for image in part]
    with replacing(target) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array(sums, dtype=np.str_))
    return _stored_checksums(target, count)


def _stored_checksums(target: Path, count: int) -> NDArray[np.str_]:
    found = mapped_array(target, _AGAIN, "U")
    if found.shape != (count,):
        raise UserError(f"{target} holds checksums of shape {list(found.shape)}, not of {count} images; {_AGAIN}")
    return np.array(found)
