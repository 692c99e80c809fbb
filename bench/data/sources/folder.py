"""Pictures in a folder a class, with or without a folder a part above them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.core.errors import UserError
from bench.data.images.files import picture_files
from bench.data.sources.rows import Row, assemble
from bench.data.table import Kind, Table

_PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_folder(name: str, root: Path, kind: Kind = "other", rename: Callable[[str], str] = str) -> Table:
    """Read class folders; folders called train(ing), val(idation), test(ing) above them are the official split.

    Args:
        name: of the dataset.
        root: the folder above the class folders.
        kind: what the pictures are of: brain, skin or other.
        rename: turns a folder's name into the class's name.

    Raises:
        UserError: no folder, no pictures, or fewer than two class folders.
    """
    rows = folder_rows(name, root, rename)
    labels = {row.label for row in rows}
    if len(labels) < 2:
        found = f"one class folder, {next(iter(labels))!r}" if labels else "no picture in any class folder"
        raise UserError(
            f"dataset {name!r}: {root} holds {found}; expected two or more folders, each with a class's pictures"
        )
    return assemble(name, rows, root, kind=kind)


def folder_rows(name: str, root: Path, rename: Callable[[str], str] = str) -> list[Row]:
    """The rows of a folder tree; ids are paths below `root`. Raises UserError when `root` is no folder.

    Args:
        name: of the dataset, for messages.
        rename: turns a folder's name into the class's name.
    """
    if not root.is_dir():
        raise UserError(f"dataset {name!r}: {root} is no folder; name the folder that holds the class folders")
    top = unwrapped(root)
    parts = {folder: _PARTS[folder.name.lower()] for folder in folders(top) if folder.name.lower() in _PARTS}
    if not parts:
        return _classes(top, root, "", rename)
    return [row for folder, part in parts.items() for row in _classes(folder, root, part, rename)]


def _classes(parent: Path, root: Path, part: str, rename: Callable[[str], str]) -> list[Row]:
    return [
        Row(path.relative_to(root).as_posix(), path, rename(folder.name), official=part)
        for folder in folders(parent)
        for path in picture_files(folder)
    ]


def folders(parent: Path) -> list[Path]:
    """The folders in a folder, hidden ones and archive litter aside, sorted."""
    found = [path for path in parent.iterdir() if path.is_dir()]
    return sorted(path for path in found if not path.name.startswith(".") and path.name != "__MACOSX")


def unwrapped(root: Path) -> Path:
    """Go down through folders that hold one folder and no picture, as archives often do."""
    inner = folders(root)
    if len(inner) != 1 or any(path.is_file() and path.suffix.lower() in _ALONE for path in root.iterdir()):
        return root
    return unwrapped(inner[0]) if folders(inner[0]) else root


_ALONE = {".jpg", ".jpeg", ".png", ".csv"}
