"""Cheng's brain-tumour slices (figshare 1512427): the original MATLAB files, or a JPEG copy with an index.

An original file `N.mat` is MATLAB v7.3, that is HDF5, with a group `cjdata`: `PID` (character codes), `image` (int16,
stored transposed), `label` (1 meningioma, 2 glioma, 3 pituitary). `cvind.mat` holds the author's fold of each N.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.schema import NUMBERS
from bench.data.images.files import MIN_SIDE, listed
from bench.data.sources.manifest import locate_images, official_parts, read_csv
from bench.data.sources.rows import Row, assemble
from bench.data.spec import DatasetSpec, Download
from bench.data.table import Pixels, Table, text_column

NAME = "figshare-brain"
CLASSES = ("meningioma", "glioma", "pituitary")
COMPLETE = 3064
PERCENTILES = (1.0, 99.0)
MAX_SIDE = 4096


@dataclass(frozen=True)
class MatImages:
    """Slices in MATLAB files; intensities are scaled per slice, 1st to 99th percentile to 0 ... 255."""

    paths: tuple[Path, ...]
    checksums: tuple[str, ...]

    def read(self, index: int) -> Pixels:
        """The scaled slice, uint8 [H, W]. Raises UserError when the file is damaged."""
        return scaled(_slice(self.paths[index])[2])

    def checksum(self, index: int) -> str:
        """The digest of the file's bytes."""
        return self.checksums[index]


def scaled(image: NDArray[Any]) -> Pixels:
    """Map the 1st ... 99th percentile of a slice linearly to 0 ... 255; a constant slice becomes zero."""
    low, high = np.percentile(image, PERCENTILES)
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    shown: Pixels = np.rint(np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return shown


def read(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """Read the distribution; patients are groups, the author's five patient-disjoint folds are the official split.

    Raises:
        UserError: neither `.mat` files nor an `index.csv` are there, or too many files are damaged.
    """
    if (path / "index.csv").is_file():
        return _copy(path)
    files = {int(file.stem): file for file in path.rglob("*.mat") if file.stem.isdigit()} if path.is_dir() else {}
    if not files:
        zips = len(list(path.glob("*.zip"))) if path.is_dir() else 0
        found = f"{zips} zip archives; unpack them there" if zips else "neither N.mat files nor an index.csv"
        raise UserError(f"dataset {NAME!r}: {path} holds {found}")
    return _original(path, files)


def _original(root: Path, files: dict[int, Path]) -> Table:
    folds = _folds(root)
    slices: dict[int, tuple[str, str, str]] = {}
    bad = []
    for number, file in sorted(files.items()):
        try:
            patient, label, _ = _slice(file)
        except UserError as error:
            bad.append(str(error))
            continue
        slices[number] = (patient, label, hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest())
    if len(bad) > 0.2 * len(files):
        raise UserError(f"dataset {NAME!r}: {len(bad)} of {len(files)} files cannot be used: {listed(bad)}")
    numbers = list(slices)
    return Table(
        NAME,
        CLASSES,
        ids=text_column(f"{number:04d}" for number in numbers),
        labels=np.array([CLASSES.index(slices[number][1]) for number in numbers], dtype=np.int64),
        groups=text_column(slices[number][0] for number in numbers),
        sites=text_column("" for _ in numbers),
        official=text_column(folds.get(number, "") for number in numbers),
        images=MatImages(tuple(files[n] for n in numbers), tuple(slices[n][2] for n in numbers)),
        kind="brain",
        expected=COMPLETE,
        notes=_notes(len(numbers), bad, bool(folds)),
    )


def _notes(found: int, bad: list[str], folds: bool) -> tuple[str, ...]:
    notes = ["intensities scaled per slice, 1st to 99th percentile"]
    if found < COMPLETE:
        notes.append(f"incomplete: {found} of {COMPLETE} slices are here")
    if bad:
        notes.append(f"{len(bad)} unusable files skipped: {listed(bad, 20)}")
    if not folds:
        notes.append("cvind.mat is not here: no official folds")
    return tuple(notes)


def _slice(path: Path) -> tuple[str, str, NDArray[Any]]:
    """Patient, class and raw intensities [H, W] of a file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            data = file["cjdata"]
            patient = "".join(chr(code) for code in np.asarray(data["PID"]).ravel())
            label = CLASSES[int(np.asarray(data["label"]).item()) - 1]
            shape, numbers = data["image"].shape, data["image"].dtype.kind in NUMBERS
            if len(shape) != 2 or not numbers or not MIN_SIDE <= min(shape) <= max(shape) <= MAX_SIDE:
                raise ValueError(f"an image of {shape}; {MIN_SIDE} to {MAX_SIDE} pixels a side are read")
            return patient, label, np.asarray(data["image"]).T
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path} is no slice in the format of the distribution: {said}") from error


def _folds(root: Path) -> dict[int, str]:
    import h5py

    found = sorted(root.rglob("cvind.mat"))
    if not found:
        return {}
    try:
        with h5py.File(found[0], "r") as file:
            folds = np.asarray(file["cvind"]).ravel().astype(int)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{found[0]} does not hold the author's folds: {error}") from error
    return {number: str(fold) for number, fold in enumerate(folds.tolist(), start=1)}


def _copy(root: Path) -> Table:
    manifest = read_csv(root / "index.csv")
    lacking = {"image", "label", "fold"} - set(manifest.header)
    if lacking:
        raise UserError(f"{manifest.path} lacks the column {sorted(lacking)[0]!r}; expected image, label, fold")
    found = locate_images(root, [row["image"] for row in manifest.rows])
    folds = official_parts(manifest.path, [row["fold"] for row in manifest.rows])
    rows = [
        Row(
            row["image"],
            found[row["image"]],
            row["label"],
            group=f"fold-{fold}",
            official=fold,
            mask=_mask(root, row["image"]),
        )
        for row, fold in zip(manifest.rows, folds, strict=True)
    ]
    note = "a copy without patient ids: the author's folds, which keep patients whole, stand in as groups"
    return assemble(NAME, rows, root, classes=CLASSES, kind="brain", expected=COMPLETE, notes=(note,))


def _mask(root: Path, image: str) -> Path | None:
    """The tumour's filled outline beside a copy: masks/N.png."""
    path = root / "masks" / f"{Path(image).stem}.png"
    return path if path.is_file() else None


def _zip(number: int, first: int, last: int, md5: str, size: int) -> Download:
    address = f"https://ndownloader.figshare.com/files/{number}"
    return Download(address, f"brainTumorDataPublic_{first}-{last}.zip", f"md5:{md5}", size, unpack=True)


SPEC = DatasetSpec(
    NAME,
    title="Brain tumours, T1 contrast-enhanced (figshare)",
    summary="3064 gray slices of 233 patients: meningioma, glioma, pituitary",
    reader=read,
    licence="CC BY 4.0",
    citation="J. Cheng et al., Enhanced performance of brain tumor classification via tumor region augmentation and "
    "partition, PLOS ONE 10(10), 2015; data: J. Cheng, figshare 1512427",
    address="https://figshare.com/articles/dataset/brain_tumor_dataset/1512427",
    hint=f"`bench data fetch {NAME}`, or `bench data add {NAME} FOLDER`",
    kind="brain",
    downloads=(
        _zip(3381290, 1, 766, "74b949ad33f042e6e103523091cd1428", 214401279),
        _zip(3381296, 767, 1532, "7e8a875500d2c8a346f270538e29890e", 217848429),
        _zip(3381293, 1533, 2298, "8227bf6080cb71f15a88be8d25c79ae7", 215563856),
        _zip(3381302, 2299, 3064, "b378a80d6174e5317d59eb28430c6652", 231679762),
        Download("https://ndownloader.figshare.com/files/7005344", "cvind.mat", size=5736),
    ),
    reading="row 9: the set that the paper cites for its brain data, 3 classes (its k = 4 points to brain-kaggle)",
    groups="patient (PID); in a JPEG copy without PIDs the author's fold",
)
