"""A CSV manifest: image and label, and where they are known group, site and split."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.core.schema import check_regular
from bench.data.images.files import picture_files
from bench.data.sources.rows import Row, assemble
from bench.data.table import Kind, Table

MAX_BYTES = 2**32
MAX_COLUMNS = 500
MAX_LINE = 1_000_000
MAX_ROWS = 5_000_000
ROLES: dict[str, tuple[str, ...]] = {
    "image": ("image", "image_id", "path", "file", "filename", "image_name", "isic_id"),
    "label": ("label", "dx", "class", "target", "diagnosis"),
    "group": ("group", "patient", "patient_id", "lesion_id", "pid", "subject", "subject_id"),
    "site": ("site", "dataset", "hospital", "center"),
    "split": ("split", "fold", "part", "set"),
}
MASK = "mask"
CHARACTERISTICS: dict[str, tuple[str, ...]] = {
    "age": ("age", "age_approx"),
    "sex": ("sex", "gender"),
    "anatomy": ("anatomy", "localization", "anatom_site_general"),
}
_PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PARTS |= {"testing": "test"}


@dataclass(frozen=True)
class Manifest:
    """A CSV in memory: its file, its header, and its rows as texts by column."""

    path: Path
    header: tuple[str, ...]
    rows: list[dict[str, str]]


def read_csv(path: Path) -> Manifest:
    """Read a CSV with a header; comma, semicolon or tab, UTF-8.

    Raises:
        UserError: missing, empty, not UTF-8, malformed, or beyond the limits on columns, line length and rows.
    """
    check_regular(path, "name a CSV file", MAX_BYTES)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline(MAX_LINE + 1)
            header = _header(path, first)
            reader = csv.reader(file, delimiter=_delimiter(first), strict=True)
            rows = [dict(zip(header, values, strict=True)) for values in _checked(path, reader, len(header))]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except csv.Error as error:
        raise UserError(f"{path} is not a well-formed CSV: {error}") from error
    if not rows:
        raise UserError(f"{path} has a header and no rows")
    return Manifest(path, header, rows)


def _header(path: Path, line: str) -> tuple[str, ...]:
    if len(line) > MAX_LINE or line.count(_delimiter(line)) >= MAX_COLUMNS:
        raise UserError(f"{path} has more than {MAX_COLUMNS} columns; a manifest needs image, label and a few more")
    header = tuple(name.strip() for name in next(csv.reader([line], delimiter=_delimiter(line)), []))
    if not any(header):
        raise UserError(f"{path} is empty; expected a header line and a row an image")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise UserError(f"{path} has the column {sorted(repeated)[0]!r} more than once")
    return header


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _checked(path: Path, rows: Iterable[list[str]], width: int) -> Iterable[list[str]]:
    for number, values in enumerate(rows, start=2):
        if not values:
            continue
        if len(values) != width:
            raise UserError(f"{path}, line {number}: {len(values)} values where the header names {width} columns")
        if number > MAX_ROWS:
            raise UserError(f"{path} has more than {MAX_ROWS} rows")
        yield [value.strip() for value in values]


def find_columns(manifest: Manifest, chosen: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Which column plays which role ("image", "label", "group", "site", "split").

    Args:
        chosen: columns that the user names, by role; the others are found by common names in any case.

    Raises:
        UserError: a named column does not exist, or image or label cannot be found.
    """
    found: dict[str, str] = {}
    by_lower = {name.lower(): name for name in manifest.header}
    for role, names in ROLES.items():
        wanted = (chosen or {}).get(role)
        if wanted and wanted not in manifest.header:
            hint = near_matches(wanted, manifest.header)
            raise UserError(f"{manifest.path} has no column {wanted!r} for --{role}; {hint}")
        match = wanted or next((by_lower[name] for name in names if name in by_lower), None)
        if match and (wanted or match not in found.values()):
            found[role] = match
    for role in ("image", "label"):
        if role not in found:
            raise UserError(
                f"{manifest.path}: no column for the {role} among {', '.join(manifest.header[:12])}; "
                f"name it with --{role} COLUMN"
            )
    return found


def read_manifest(
    name: str,
    path: Path,
    columns: Mapping[str, str | None] | None = None,
    kind: Kind = "other",
    allow_outside: bool = False,
) -> Table:
    """Read a CSV manifest; images are looked for in its folder and the folders below.

    Args:
        name: of the dataset.
        path: of the CSV file.
        columns: the CSV's column by what it holds (image, label, group, ...); None: by their usual names.
        kind: what the pictures are of: brain, skin or other.
        allow_outside: images may lie elsewhere, by absolute paths or by `..`; whoever wrote the CSV then chooses which
            of this machine's files are read.

    A column of numbers for the split is read as the author's folds, one of train/val/test as official parts. A column
    `mask` names files of lesions' filled outlines; age, sex and anatomy come along where columns have those names.

    Raises:
        UserError: as `read_csv`, `find_columns` and `assemble`, or for split values that are neither.
    """
    manifest = read_csv(path)
    roles = find_columns(manifest, columns)
    official = official_parts(path, [row[roles["split"]] for row in manifest.rows]) if "split" in roles else None
    named = [row[roles["image"]] for row in manifest.rows]
    masks = _masks(manifest)
    if not allow_outside:
        _refuse_outside(path, [*named, *filter(None, masks)])
    about = _characteristics(manifest, set(roles.values()))
    found = locate_images(path.parent, named)
    rows = [
        Row(
            row[roles["image"]],
            found[row[roles["image"]]],
            _label(path, row, roles),
            row[roles["group"]] if "group" in roles else "",
            row[roles["site"]] if "site" in roles else "",
            official[index] if official else "",
            mask=path.parent / masks[index] if masks[index] else None,
            metadata={name: row[column] for name, column in about.items()},
        )
        for index, row in enumerate(manifest.rows)
    ]
    used = ", ".join(f"{role} = {column}" for role, column in {**roles, **about}.items())
    lacking = () if "group" in roles else ("no column names patients or lesions: every image is a group of its own",)
    return assemble(name, rows, path.parent, kind=kind, notes=(f"columns read: {used}", *lacking))


def _masks(manifest: Manifest) -> list[str]:
    """Each row's mask as its file names it, "" where it has none."""
    column = next((name for name in manifest.header if name.lower() == MASK), None)
    return [row[column] if column else "" for row in manifest.rows]


def _characteristics(manifest: Manifest, taken: set[str]) -> dict[str, str]:
    """The columns of age, sex and anatomy, by common names in any case, that play no other role."""
    by_lower = {name.lower(): name for name in manifest.header if name not in taken}
    found = {
        about: next((by_lower[name] for name in names if name in by_lower), None)
        for about, names in CHARACTERISTICS.items()
    }
    return {about: column for about, column in found.items() if column}


def _label(path: Path, row: Mapping[str, str], roles: Mapping[str, str]) -> str:
    label = row[roles["label"]]
    if not label:
        raise UserError(f"{path}: image {row[roles['image']]!r} has no label in column {roles['label']!r}")
    return label


def official_parts(path: Path, values: list[str]) -> list[str]:
    """Normalise a split column: folds counted from 1, or train/val/test; empty texts stay empty.

    Raises:
        UserError: for values that are neither.
    """
    given = {value for value in values if value}
    if given and all(value.isdigit() for value in given):
        shift = 1 if "0" in given else 0
        return [str(int(value) + shift) if value else "" for value in values]
    unknown = sorted(value for value in given if value.lower() not in _PARTS)
    if unknown:
        raise UserError(f"{path}: the split {unknown[0]!r} is neither a fold's number nor train, val or test")
    return [_PARTS[value.lower()] if value else "" for value in values]


def _refuse_outside(path: Path, names: Iterable[str]) -> None:
    # Links below the folder were put there by its owner, and are followed.
    folder = Path(os.path.normpath(Path.cwd() / path.parent))
    for name in names:
        if not Path(os.path.normpath(Path(folder, name))).is_relative_to(folder):
            raise UserError(
                f"{path}: the image {name!r} lies outside its folder; put it below {path.parent}, or add the dataset "
                "with --allow-outside if you trust whoever wrote the file"
            )


def locate_images(folder: Path, names: Iterable[str]) -> dict[str, Path | None]:
    """Where each named image lies: a path from the folder, or a name or stem anywhere below it; None if nowhere."""
    wanted = list(dict.fromkeys(names))
    direct = {name: folder / name for name in wanted}
    # `Path.is_file` raises for a name that no file system takes.
    found: dict[str, Path | None] = {name: path if os.path.isfile(path) else None for name, path in direct.items()}  # noqa: PTH113
    if all(found.values()):
        return found
    below: dict[str, Path] = {}
    for path in picture_files(folder):
        below.setdefault(path.name, path)
        below.setdefault(path.stem, path)
    return {name: path or below.get(Path(name).name) for name, path in found.items()}
