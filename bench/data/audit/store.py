"""Audits that were made, kept by the pictures that they compared; the groups that they join, and a split's verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.paths import home
from bench.core.schema import read_json
from bench.data.audit.groups import groups_in_two_parts, identical_pairs, merged
from bench.data.splits import Split
from bench.data.table import Table

CLEAN, NOT_AUDITED = "clean", "not audited"
AGAIN = "remove it and audit again"


@with_config(ConfigDict(extra="allow"))
class _Pair(TypedDict):
    left: str
    right: str


@with_config(ConfigDict(extra="allow"))
class _Audit(TypedDict):
    dataset: NotRequired[str]
    pairs: list[_Pair]


@with_config(ConfigDict(extra="allow"))
class _Noted(TypedDict):
    dataset: str
    # It names a file of the store: nothing in it may lead elsewhere.
    pictures: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
    classes: list[str]
    ids: list[str]
    labels: list[int]
    groups: list[str]
    official: list[str]


def audits() -> Path:
    """The folder of the audits: a file a set of pictures."""
    return home() / "audits"


def audit_file(pictures: str) -> Path:
    """Where the audit of pictures is kept, by their digest."""
    return audits() / f"{pictures}.json"


def table_file(fingerprint: str) -> Path:
    """Where the columns of an audited dataset are kept, by the dataset's fingerprint."""
    return audits() / "tables" / f"{fingerprint}.json"


def _pictures(table: Table) -> str:
    return digest([table.ids.tolist(), table.checksums.tolist()], length=24)


def audit_path(table: Table) -> Path:
    """Where the audit of a table's pictures is kept; labels, groups and splits do not count."""
    return audit_file(_pictures(table))


def store_audit(table: Table, audit: dict[str, Any]) -> Path:
    """Keep an audit and return its file."""
    path = audit_path(table)
    write_json(path, audit)
    return path


def note_table(table: Table) -> None:
    """Keep an audited table's columns, so that splits of it can be judged where its images are not available.

    Nothing is kept of a table whose pictures were never audited.
    """
    path = table_file(table.fingerprint())
    if path.is_file() or not audit_path(table).is_file():
        return
    columns = {name: getattr(table, name).tolist() for name in ("ids", "labels", "groups", "sites", "official")}
    write_json(path, {"dataset": table.name, "pictures": _pictures(table), "classes": list(table.classes), **columns})


def stored_audit(table: Table) -> dict[str, Any] | None:
    """The audit of these pictures, or None. Raises UserError when its file is damaged."""
    path = audit_path(table)
    return read_audit(path) if path.is_file() else None


def read_audit(path: Path) -> dict[str, Any]:
    """An audit of the store. Raises UserError when it is damaged."""
    return dict(read_json(path, _Audit, AGAIN))


def read_noted(path: Path) -> dict[str, Any]:
    """The columns of an audited table. Raises UserError when they are damaged."""
    return dict(read_json(path, _Noted, AGAIN))


def stored_pairs(table: Table) -> list[tuple[int, int]]:
    """Rows that the stored audit found to show the same picture; empty where there is none."""
    audit = stored_audit(table)
    if audit is None:
        return []
    row = {str(name): index for index, name in enumerate(table.ids)}
    try:
        return [(row[pair["left"]], row[pair["right"]]) for pair in audit["pairs"]]
    except KeyError as error:
        raise UserError(f"{audit_path(table)} pairs an image {error} that is not there; {AGAIN}") from error


def with_joined_groups(table: Table) -> Table:
    """Join the groups of byte-identical files, and of the pairs that a stored audit of these pictures found.

    Returns:
        the same table when there is nothing to join; else one whose joined groups bear their first name.
    """
    if table.synthetic:
        return table
    pairs = [*identical_pairs(table.checksums), *stored_pairs(table)]
    groups = merged(table.groups, pairs)
    joined = len(np.unique(table.groups)) - len(np.unique(groups))
    if not joined:
        return table
    note = f"{joined} groups joined with another one, because the same picture is in both"
    return replace(table, groups=groups, notes=(*table.notes, note))


def audit_verdict(table: Table, split: Split) -> str:
    """What a result row says of leakage.

    Returns:
        "leaks: n" when n groups stand in two parts or more (after joining groups that share a picture), "clean" when
        none does and near duplicates were looked for, "not audited" when only equal files and groups were looked at.
    """
    leaking = groups_in_two_parts(with_joined_groups(table), split)
    if leaking:
        return f"leaks: {leaking}"
    # What is drawn by code has no file that could stand in it twice.
    return CLEAN if table.synthetic or stored_audit(table) is not None else NOT_AUDITED
