"""What `bench data add` remembers: one TOML file a dataset in the user's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired
from urllib.parse import quote

from typing_extensions import TypedDict

from bench.core.atomic import write_text
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.paths import home
from bench.core.schema import read_toml
from bench.data.table import Kind, Table

Layout = Literal["folder", "csv", "source"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


@dataclass(frozen=True)
class Added:
    """A remembered dataset, callable as a reader.

    Attributes:
        path: absolute; the folder, or the CSV file.
        layout: "source" where a known distribution's own reader reads it.
        columns: a manifest's columns by role.
        allow_outside: whether a manifest may name images outside its folder.
    """

    name: str
    path: Path
    layout: Layout
    kind: Kind = "other"
    columns: Mapping[str, str | None] = field(default_factory=dict)
    licence: str = ""
    allow_outside: bool = False

    def __call__(self, path: Path, protocol: Protocol) -> Table:
        """Read the folder or the manifest."""
        from bench.data.sources.folder import read_folder
        from bench.data.sources.manifest import read_manifest

        if self.layout == "folder":
            return read_folder(self.name, path, self.kind)
        return read_manifest(self.name, manifest_in(self.name, path), self.columns, self.kind, self.allow_outside)


class _Record(TypedDict):
    name: str
    path: str
    layout: Layout
    kind: Kind
    licence: str
    columns: dict[str, str | None]
    allow_outside: NotRequired[bool]


def layout_of(path: Path) -> Layout:
    """A file, or a folder with a CSV at its top, is read as a manifest; any other folder as class folders."""
    return "csv" if path.is_file() or any(path.glob("*.csv")) else "folder"


def manifest_in(name: str, path: Path) -> Path:
    """The CSV at a path. Raises UserError when a folder holds several."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        raise UserError(f"dataset {name!r}: {path} holds {len(found)} CSV files; name the one that lists the images")
    return found[0]


def record_of(name: str) -> Added | None:
    """What was remembered under a name. Raises UserError when the record is damaged."""
    path = _record_path(name)
    return _read(path) if path.is_file() else None


def records() -> list[Added]:
    """Everything that was added, by name."""
    return [_read(path) for path in sorted(_folder().glob("*.toml"))]


def remember(record: Added) -> None:
    """Write a record, over an older one of the same name. Raises UserError for a name that will not do."""
    if not _NAME.fullmatch(record.name) or record.name == "all":
        raise UserError(f"a dataset cannot be called {record.name!r}; use letters, digits, dot, dash and underscore")
    values = {"name": record.name, "path": str(record.path), "layout": record.layout, "kind": record.kind}
    lines = [f"{key} = {_toml(value)}" for key, value in {**values, "licence": record.licence}.items()]
    lines += ["allow_outside = true"] * record.allow_outside
    columns = [f"{role} = {_toml(column)}" for role, column in record.columns.items() if column]
    write_text(_record_path(record.name), "\n".join([*lines, "", "[columns]", *columns]) + "\n")


def forget(name: str) -> None:
    """Remove a record; the files stay. Raises UserError when there is none."""
    path = _record_path(name)
    if not path.is_file():
        raise UserError(f"nothing was added under the name {name!r}; `bench data list` names what there is")
    path.unlink()


def _folder() -> Path:
    return home() / "datasets"


def _record_path(name: str) -> Path:
    return _folder() / f"{quote(name, safe='')}.toml"


def _toml(text: str) -> str:
    # A JSON string is a TOML basic string, once DEL is escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(path: Path) -> Added:
    values = read_toml(path, _Record, "remove it and add the dataset again")
    return Added(
        values["name"],
        Path(values["path"]),
        values["layout"],
        values["kind"],
        values["columns"],
        values["licence"],
        values.get("allow_outside", False),
    )
