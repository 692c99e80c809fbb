"""The registry of datasets: the embedded ones, the sources of known distributions, and what the user added."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.registry import Registry
from bench.data.added import Added, Layout, layout_of, record_of, records, remember
from bench.data.audit.store import note_table, with_joined_groups
from bench.data.download.folders import fetched_folder
from bench.data.spec import DatasetSpec
from bench.data.table import Kind, Table


class Datasets(Registry[DatasetSpec]):
    """A registry that also knows what `bench data add` remembered, read anew at every look."""

    def __init__(self) -> None:
        super().__init__("dataset", "bench.datasets", listing="bench data list", kind=DatasetSpec)
        self._added: set[str] = set()

    def _load_entry_points(self) -> None:
        super()._load_entry_points()
        for name in self._added:
            self._items.pop(name, None)
        new = [record for record in records() if record.name not in self._items]
        self._added = {record.name for record in new}
        self._items.update({record.name: self._resolve(record.name) or _added_spec(record) for record in new})

    def is_added(self, name: str) -> bool:
        """Whether a name is known only because the user added it."""
        self._load_entry_points()
        return name in self._added


DATASETS = Datasets()


def _added_spec(record: Added) -> DatasetSpec:
    return DatasetSpec(
        record.name,
        title=record.name,
        summary=f"added from {record.path}",
        reader=record,
        licence=record.licence or "unknown",
        address=str(record.path),
        hint=f"bring it back with `bench data add {record.name} PATH`",
        kind=record.kind,
    )


def locate(name: str) -> Path | None:
    """Where a dataset's files lie: what was added under its name, else what was fetched; None where nothing is.

    An embedded dataset lies nowhere: None.
    """
    record = record_of(name)
    if record is not None:
        return record.path if record.path.exists() else None
    shared = DATASETS.get(name).same_files_as
    return fetched_folder(name) or (locate(shared) if shared else None)


def available() -> list[str]:
    """The names of the datasets that can be read now, in the registry's order."""
    return [name for name in DATASETS.names() if DATASETS.get(name).embedded or locate(name) is not None]


def load(name: str, protocol: Protocol, joined: bool = True) -> Table:
    """Read a dataset.

    Args:
        name: as it is registered, or as it was added.
        protocol: what a drawn dataset goes by (`synthetic_images`, `image_size`).
        joined: make one group of groups that share byte-identical files, or that an audit joined.

    Raises:
        UnknownName: no such dataset, with near matches.
        UserError: not available (with the command that brings it), or unreadable.
    """
    spec = DATASETS.get(name)
    place = locate(name)
    if place is None and not spec.embedded:
        raise UserError(_not_available(spec))
    table = spec.reader(place or Path(), protocol)
    table = replace(table, caution=spec.caution) if spec.caution else table
    if not joined:
        return table
    found = with_joined_groups(table)
    if not found.synthetic:
        # Where the store cannot be written, a report says that its audit is stale; reading the dataset must not fail.
        with suppress(OSError, UserError):
            note_table(found)
    return found


def _not_available(spec: DatasetSpec) -> str:
    record = record_of(spec.name)
    gone = f": {record.path} is not there any more" if record else ""
    return f"dataset {spec.name!r} is not available{gone}; {spec.hint}"


def add(
    name: str,
    path: Path,
    columns: Mapping[str, str | None] | None = None,
    kind: Kind = "other",
    licence: str = "",
    allow_outside: bool = False,
) -> Table:
    """Read a folder or a CSV manifest as a dataset and remember it under a name.

    The name of a known distribution makes that distribution's own source read the path.

    Args:
        name: under which it is remembered.
        path: a folder of class folders, a CSV manifest, or the folder of a known distribution.
        columns: columns of a manifest by role ("image", "label", "group", "site", "split"); found by common names
            where they are not given.
        kind: of image; the augmentation goes by it.
        licence: shown on the dataset's card, "unknown" where empty.
        allow_outside: a manifest may name images outside its folder.

    Raises:
        UserError: the path cannot be read as a dataset; nothing is remembered then.
    """
    if not path.exists():
        raise UserError(f"there is no {path}; name the folder or the CSV file of dataset {name!r}")
    source = _known_source(name)
    layout: Layout = "source" if source else layout_of(path)
    record = Added(name, path.resolve(), layout, kind, dict(columns or {}), licence, allow_outside)
    table = (source.reader if source else record)(record.path, Protocol())
    remember(record)
    return table


def _known_source(name: str) -> DatasetSpec | None:
    if ":" not in name and (name not in DATASETS.names() or DATASETS.is_added(name)):
        return None
    spec = DATASETS.get(name)
    if spec.embedded:
        raise UserError(f"{name!r} is embedded and needs no files; choose another name")
    return spec


def _register_builtin() -> None:
    from bench.data.sources import builtin

    for spec in builtin.SPECS:
        DATASETS.register(spec.name, spec)
    for prefix, resolve in builtin.RESOLVERS.items():
        DATASETS.resolver(prefix, resolve)


_register_builtin()
