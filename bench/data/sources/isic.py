"""The skin sets of the ISIC archive and HAM10000."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.sources.manifest import Manifest, locate_images, official_parts, read_csv
from bench.data.sources.rows import Row, assemble
from bench.data.table import Table

HAM_CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
HAM_COMPLETE = 10015
ISIC18_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
ISIC18_COMPLETE = {"Training": 10015, "Validation": 193, "Test": 1512}
ISIC19_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
ISIC19_COMPLETE = 25331
MELANOMA_CLASSES = ("benign", "melanoma")
BALANCE_SEED = 0
ISIC17_CLASSES = ("MEL", "NV", "BKL")
_HAM_METADATA = {"age": "age", "sex": "sex", "anatomy": "localization"}
_PARTS = {"Training": "train", "Validation": "val", "Test": "test"}


def read_ham10000(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """HAM10000 with its seven diagnoses; lesions are groups, the `dataset` column is the site where it is there."""
    rows = _ham_rows("ham10000", path)
    return assemble("ham10000", rows, path, classes=HAM_CLASSES, kind="skin", expected=HAM_COMPLETE)


def read_ham10000_mel(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """HAM10000 as melanoma or not, at its natural prevalence of 11 %."""
    rows = _as_melanoma(_ham_rows("ham10000-mel", path))
    return assemble("ham10000-mel", rows, path, classes=MELANOMA_CLASSES, kind="skin", expected=HAM_COMPLETE)


def read_ham10000_balanced(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """HAM10000 as melanoma or not, whole benign lesions drawn down to as many images as there are melanomas."""
    name = "ham10000-mel-balanced"
    every = _as_melanoma(_ham_rows(name, path))
    chosen = balanced(every)
    note = f"{len(chosen)} of {len(every)} images: benign lesions drawn by seed {BALANCE_SEED} to equal the melanomas"
    notes = (note, *_incomplete(len(every), HAM_COMPLETE))
    return assemble(
        name, chosen, path, classes=MELANOMA_CLASSES, kind="skin", notes=notes, paper_name="HAM10000",
        expected=2 * sum(row.label == "melanoma" for row in every),
    )  # fmt: skip


def read_ham10000_oversampled(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """HAM10000 as melanoma or not, melanomas repeated to as many rows as there are benign images.

    The repeats are made before the split, so that `--split image` tests on copies of training images (reading row 10).
    """
    name = "ham10000-mel-oversampled"
    every = oversampled(_as_melanoma(_ham_rows(name, path)))
    melanomas = sum(row.label == "melanoma" for row in every)
    note = f"{melanomas} rows of melanomas, repeated before the split to equal the benign images"
    return assemble(
        name, every, path, classes=MELANOMA_CLASSES, kind="skin", notes=(note,), paper_name="HAM10000",
        expected=2 * (len(every) - melanomas),
    )  # fmt: skip


def oversampled(rows: Sequence[Row]) -> list[Row]:
    """Every row, and further copies (`ID#2`, `ID#3`, ...) of the melanomas in turn until both classes are equal."""
    melanomas = sorted((row for row in rows if row.label == "melanoma"), key=lambda row: _draw(row.id))
    missing = sum(row.label == "benign" for row in rows) - len(melanomas)
    turns = [(row, turn) for turn in range(2, 3 + missing // max(1, len(melanomas))) for row in melanomas]
    return [*rows, *(replace(row, id=f"{row.id}#{turn}") for row, turn in turns[: max(0, missing)])]


def balanced(rows: Sequence[Row]) -> list[Row]:
    """Every melanoma, and whole benign lesions, in the order of a seeded hash, that fit into the same number."""
    melanomas = [row for row in rows if row.label == "melanoma"]
    lesions: dict[str, list[Row]] = {}
    for row in rows:
        if row.label == "benign":
            lesions.setdefault(row.group, []).append(row)
    drawn: list[Row] = []
    for lesion in sorted(lesions, key=_draw):
        if len(drawn) + len(lesions[lesion]) <= len(melanomas):
            drawn += lesions[lesion]
    return melanomas + drawn


def _draw(lesion: str) -> bytes:
    return hashlib.sha256(f"balance\x1f{BALANCE_SEED}\x1f{lesion}".encode()).digest()


def _as_melanoma(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, label="melanoma" if row.label == "mel" else "benign") for row in rows]


def _ham_rows(name: str, root: Path) -> list[Row]:
    manifest = read_csv(_file(name, root, ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")))
    _need(manifest, ("lesion_id", "image_id", "dx"))
    odd = {row["dx"] for row in manifest.rows} - set(HAM_CLASSES)
    if odd:
        raise UserError(f"dataset {name!r}: {manifest.path} names the unknown diagnosis {sorted(odd)[0]!r}")
    found = locate_images(root, [row["image_id"] for row in manifest.rows])
    return [
        Row(
            row["image_id"],
            found[row["image_id"]],
            row["dx"],
            row["lesion_id"],
            row.get("dataset", ""),
            metadata={name: row[column] for name, column in _HAM_METADATA.items() if column in row},
        )
        for row in manifest.rows
    ]


def read_isic2017(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """ISIC 2017, Task 3, as an `index.csv`: image, label, part, lesion_id, age, sex, anatomy, mask.

    Any folder with an index of this form can be read under another name by `bench data add`; what it adds here are
    characteristics and masks. An image without a lesion id is a group of its own.
    """
    name = "isic2017"
    manifest = _needed(_file(name, path, ("index.csv",)), ("image", "label", "part", "lesion_id"))
    found = locate_images(path, [row["image"] for row in manifest.rows])
    rows = [
        Row(
            Path(row["image"]).stem,
            found[row["image"]],
            row["label"],
            row["lesion_id"],
            official=part,
            mask=path / row["mask"] if row.get("mask") else None,
            metadata={column: row[column] for column in ("age", "sex", "anatomy") if column in row},
        )
        for row, part in zip(
            manifest.rows, official_parts(manifest.path, [row["part"] for row in manifest.rows]), strict=True
        )
    ]
    return assemble(name, rows, path, classes=ISIC17_CLASSES, kind="skin", paper_name="")


def read_isic2018(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """ISIC 2018, Task 3: the official training, validation and test sets; lesions group the training images.

    No lesion groupings are published for validation and test: each image is a group of its own there.
    """
    name = "isic2018"
    groupings = _file(name, path, ("ISIC2018_Task3_Training_LesionGroupings.csv",))
    lesion = {row["image"]: row["lesion_id"] for row in _needed(groupings, ("image", "lesion_id")).rows}
    rows = [
        Row(image, file, label, lesion.get(image, ""), official=_PARTS[part])
        for part in _PARTS
        for image, file, label in _one_hot(name, path, f"ISIC2018_Task3_{part}_GroundTruth.csv", ISIC18_CLASSES)
    ]
    expected = sum(ISIC18_COMPLETE.values())
    notes = _incomplete(len(rows), expected)
    return assemble(
        name, rows, path, classes=ISIC18_CLASSES, kind="skin", expected=expected, notes=notes, paper_name="ISIC-2018"
    )


def read_isic2019(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """ISIC 2019: eight diagnoses, and UNK if a row has it; lesions are groups, sites follow Fed-ISIC2019's rule.

    The rule (FLamby, `fed_isic2019`): the first letters of the lesion id name the centre (BCN, HAM, MSK); HAM10000's
    own metadata, where a file of it lies below the path, names which of its sources. Rows without a lesion
    have no known centre.
    """
    name = "isic2019"
    metadata = _needed(_file(name, path, ("ISIC_2019_Training_Metadata.csv",)), ("image", "lesion_id"))
    lesion = {row["image"]: row["lesion_id"] for row in metadata.rows}
    source = _ham_sources(path)
    truth = _one_hot(name, path, "ISIC_2019_Training_GroundTruth.csv", (*ISIC19_CLASSES, "UNK"))
    rows = [
        Row(image, file, label, lesion.get(image, ""), site_of(lesion.get(image, ""), source.get(image, "")))
        for image, file, label in truth
    ]
    classes = (*ISIC19_CLASSES, "UNK") if any(row.label == "UNK" for row in rows) else ISIC19_CLASSES
    without = sum(not row.group for row in rows)
    notes = (f"{without} images without a lesion id are groups of their own", *_incomplete(len(rows), ISIC19_COMPLETE))
    return assemble(
        name, rows, path, classes=classes, kind="skin", expected=ISIC19_COMPLETE, notes=notes, paper_name="ISIC-2019"
    )


def site_of(lesion: str, ham_source: str = "") -> str:
    """The centre by a lesion id's first letters; "" where there is none."""
    centre = lesion[:3].upper() if lesion else ""
    return f"HAM_{ham_source}" if centre == "HAM" and ham_source else centre


def _ham_sources(root: Path) -> dict[str, str]:
    found = sorted(root.rglob("HAM10000_metadata*"))
    manifests = [read_csv(file) for file in found if file.is_file()]
    return {
        row["image_id"]: row["dataset"]
        for manifest in manifests
        if {"image_id", "dataset"} <= set(manifest.header)
        for row in manifest.rows
    }


def _one_hot(name: str, root: Path, filename: str, classes: Sequence[str]) -> list[tuple[str, Path | None, str]]:
    """Image, file and class of a ground-truth table with a column of 0 and 1 a class."""
    manifest = read_csv(_file(name, root, (filename,)))
    columns = [label for label in classes if label in manifest.header]
    _need(manifest, ("image", *(label for label in classes if label != "UNK")))
    found = locate_images(root, [row["image"] for row in manifest.rows])
    return [(row["image"], found[row["image"]], _hot(manifest.path, row, columns)) for row in manifest.rows]


def _hot(path: Path, row: dict[str, str], columns: Sequence[str]) -> str:
    hot = [column for column in columns if row[column] in ("1", "1.0")]
    if len(hot) != 1:
        raise UserError(f"{path}: image {row['image']!r} has {len(hot)} classes; expected exactly one 1 in its row")
    return hot[0]


def _file(name: str, root: Path, names: Sequence[str]) -> Path:
    for wanted in names:
        found = sorted(root.rglob(wanted)) if root.is_dir() else []
        if found:
            return found[0]
    raise UserError(f"dataset {name!r}: there is no {names[0]} below {root}; it is part of the distribution")


def _needed(path: Path, columns: Sequence[str]) -> Manifest:
    manifest = read_csv(path)
    _need(manifest, columns)
    return manifest


def _need(manifest: Manifest, columns: Sequence[str]) -> None:
    lacking = [column for column in columns if column not in manifest.header]
    if lacking:
        raise UserError(f"{manifest.path} lacks the column {lacking[0]!r}; expected {', '.join(columns)}")


def _incomplete(listed: int, expected: int) -> tuple[str, ...]:
    return (f"the tables name {listed} of {expected} images",) if listed < expected else ()
