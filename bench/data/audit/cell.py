"""What the audit store says of a finished cell, asked when a table is drawn: an audit may be younger than the cell."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.cellspec import data_seed
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.data.audit.groups import groups_in_two_parts, merged
from bench.data.audit.store import CLEAN, NOT_AUDITED, audit_file, audits, read_audit, read_noted, table_file
from bench.data.splits import split
from bench.data.table import Pixels, Table, text_column

STALE, UNREADABLE = "stale audit", "unreadable audit"


@dataclass(frozen=True)
class CellAudit:
    """What is known of leakage in a cell.

    Attributes:
        words: "clean", "leaks: N" (groups in two parts or more), "not audited", "stale audit" (of other images or
            labels than the cell's), or "unreadable audit".
        when_run: the words are those of the time when the cell was run; nothing on this machine knows better.
        advice: the command that would tell; "" where there is nothing more to ask.
    """

    words: str
    when_run: bool = False
    advice: str = ""

    @property
    def text(self) -> str:
        """The words, with their age where that matters."""
        return f"{self.words} (when it was run)" if self.when_run else self.words

    @property
    def clean(self) -> bool:
        """Whether near duplicates were looked for and no group stands in two parts."""
        return self.words.lower() == CLEAN

    @property
    def badge(self) -> str:
        """What must stand wherever the cell's metrics do; "" for what is clean or was not looked at."""
        if self.clean or self.words in (NOT_AUDITED, "none"):
            return ""
        counted = f"{self.words} groups in two parts" if re.fullmatch(r"leaks: \d+", self.words) else self.words
        return f"{counted} (when it was run)" if self.when_run else counted


def cell_audit(spec: Mapping[str, Any], data: Mapping[str, Any]) -> CellAudit:
    """Judge a finished cell by the audits that are stored now.

    The stored audit of the cell's images counts, not the verdict that was written with the cell. That one stands where
    images are drawn by code (no file of theirs could stand in it twice), where this machine has no audit store, and
    where it knows of a leak and the store knows nothing.

    Args:
        spec: the cell's dataset, split and seed.
        data: the `data` of its `result.json`: fingerprint, test_fingerprint, synthetic, audit.
    """
    stored = str(data.get("audit") or NOT_AUDITED)
    if data.get("synthetic"):
        return CellAudit(stored)
    advice = f"bench data audit {spec['dataset']}"
    if not audits().is_dir():
        return CellAudit(stored, True, "" if stored.lower() == CLEAN else advice)
    try:
        torn = _torn(spec, data)
    except (UserError, OSError, ValueError, KeyError):
        return CellAudit(UNREADABLE, advice=advice)
    if torn is not None:
        return CellAudit(f"leaks: {torn}" if torn else CLEAN)
    if stored.startswith("leaks"):
        return CellAudit(stored, True, advice)
    return CellAudit(STALE if _has_other_audit(spec["dataset"]) else NOT_AUDITED, advice=advice)


def audit_sentences(cells: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """A sentence a dataset on what a reader must know of its audit; nothing for one whose cells are all clean.

    Args:
        cells: the spec and the `data` of each finished cell.
    """
    found: dict[str, dict[CellAudit, int]] = {}
    for spec, data in cells:
        of_dataset = found.setdefault(spec["dataset"], {})
        known = cell_audit(spec, data)
        of_dataset[known] = of_dataset.get(known, 0) + 1
    return [_sentence(name, known) for name, known in found.items() if not all(each.clean for each in known)]


def _sentence(dataset: str, found: Mapping[CellAudit, int]) -> str:
    every = sum(found.values())
    told = [each.text if count == every else f"{each.text} ({count} of {every} cells)" for each, count in found.items()]
    advice = next((each.advice for each in found if each.advice), "")
    return f"{dataset}: {', '.join(told)}" + (f"; `{advice}` tells." if advice else ".")


def _torn(spec: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """How many groups the cell's split tears, after joining those that the audit found to share a picture.

    None where no audit of these images is stored, or where the split that the cell was made on cannot be made again.
    """
    noted = table_file(str(data.get("fingerprint")))
    if not noted.is_file():
        return None
    pictures = _columns(noted, noted.stat().st_mtime_ns)["pictures"]
    audit = audit_file(pictures)
    if not audit.is_file():
        return None
    times = noted.stat().st_mtime_ns, audit.stat().st_mtime_ns
    seed = data_seed(spec["dataset"], spec["split"], spec["seed"])
    torn, test = _split_again(noted, audit, times, spec["split"], seed)
    return torn if test == data.get("test_fingerprint") else None


@functools.lru_cache(maxsize=512)
def _split_again(noted: Path, audit: Path, times: tuple[int, int], kind: str, seed: int) -> tuple[int, str]:
    """Groups in two parts, and the digest of the test set's ids as `result.json` holds it."""
    table = _table(noted, times[0])
    row = {name: index for index, name in enumerate(table.ids.tolist())}
    pairs = [(row[pair["left"]], row[pair["right"]]) for pair in _read(audit, times[1])["pairs"]]
    made = split(table, kind, seed)
    joined = replace(table, groups=merged(table.groups, pairs))
    return groups_in_two_parts(joined, made), digest(sorted(table.ids[made.test].tolist()))


@functools.lru_cache(maxsize=8)
def _table(noted: Path, _written: int) -> Table:
    stored = _columns(noted, _written)
    ids, groups, official = (text_column(stored[name]) for name in ("ids", "groups", "official"))
    # Tables that were noted before there was a split by site have none.
    sites = text_column(stored.get("sites", [""] * len(ids)))
    labels = np.asarray(stored["labels"], dtype=np.int64)
    return Table(stored["dataset"], tuple(stored["classes"]), ids, labels, groups, sites, official, _Unseen())


@functools.lru_cache(maxsize=16)
def _columns(path: Path, _written: int) -> dict[str, Any]:
    return read_noted(path)


@functools.lru_cache(maxsize=16)
def _read(path: Path, _written: int) -> dict[str, Any]:
    """A file of the store; its time `_written` makes a file that was written anew another one."""
    return read_audit(path)


def _has_other_audit(dataset: str) -> bool:
    return any(_read_name(path, path.stat().st_mtime_ns) == dataset for path in sorted(audits().glob("*.json")))


@functools.lru_cache(maxsize=256)
def _read_name(path: Path, _written: int) -> str:
    try:
        return str(read_audit(path).get("dataset"))
    except UserError:
        return ""


class _Unseen:
    """The images of a table of which only the columns are known."""

    def read(self, index: int) -> Pixels:
        """Not here. Raises UserError."""
        raise UserError("an audit's table holds no images")

    def checksum(self, index: int) -> str:
        """Not here. Raises UserError."""
        raise UserError("an audit's table holds no images")
