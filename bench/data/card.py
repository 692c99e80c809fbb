"""What a dataset's card says, and the contact sheet of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.core.atomic import replacing
from bench.core.config import Protocol
from bench.data.images.cache import resized
from bench.data.registry import DATASETS, load, locate
from bench.data.table import Pixels, Table

_TILE = 96
_PER_CLASS = 8


def listing() -> list[dict[str, Any]]:
    """A row a dataset: name, title, whether it is available, and where it lies or what brings it."""
    rows = []
    for name in DATASETS.names():
        spec, place = DATASETS.get(name), locate(name)
        where = "drawn by code" if spec.embedded else str(place) if place else spec.hint
        available = spec.embedded or place is not None
        rows.append(
            {"name": name, "title": spec.title, "available": available, "where": where, "licence": spec.licence}
            | {"summary": spec.summary, "paper_name": spec.paper_name, "synthetic": spec.synthetic}
        )
    return rows


def describe(table: Table) -> dict[str, Any]:
    """What a table holds, as JSON values."""
    return {
        "images": len(table),
        "expected": table.expected,
        "complete": table.complete,
        "classes": table.counts(),
        "groups": len(np.unique(table.groups)),
        "sites": _counts(table.sites),
        "official": _counts(table.official),
        "synthetic": table.synthetic,
        "fingerprint": table.fingerprint(),
        "notes": list(table.notes),
    }


def _counts(column: Any) -> dict[str, int]:
    names, counts = np.unique(column, return_counts=True)
    found = {str(name) or "unknown": int(count) for name, count in zip(names, counts, strict=True)}
    return {} if set(found) == {"unknown"} else found


def card(name: str) -> dict[str, Any]:
    """Everything known of a dataset; of one that is not available, what is known without it.

    Raises:
        UnknownName: no such dataset. UserError: its files cannot be read.
    """
    spec, place = DATASETS.get(name), locate(name)
    about: dict[str, Any] = {
        "name": name,
        "title": spec.title,
        "task": spec.summary,
        "kind": spec.kind,
        "paper_name": spec.paper_name or None,
        "reading": spec.reading or None,
        "group": spec.groups or None,
        "licence": spec.licence,
        "citation": spec.citation or None,
        "address": spec.address or None,
        "verified": spec.verified,
        "path": str(place) if place else None,
        "available": spec.embedded or place is not None,
    }
    return about | (describe(load(name, Protocol())) if about["available"] else {"how to get it": spec.hint})


def write_sheet(name: str, path: Path) -> Path:
    """Write a PNG with a row of examples a class, from as many groups as there are. Returns the path.

    Raises:
        UserError: the dataset is not available.
    """
    from PIL import Image

    table = load(name, Protocol(image_size=_TILE))
    with replacing(path) as temporary:
        Image.fromarray(sheet(table)).save(temporary, format="PNG")
    return path


def sheet(table: Table) -> Pixels:
    """The contact sheet, uint8 [H, W, 3]: a labelled row of up to eight examples a class."""
    rows = [_row(table, label) for label in range(len(table.classes))]
    return np.concatenate(rows, axis=0)


def _row(table: Table, label: int) -> Pixels:
    members = np.flatnonzero(table.labels == label)
    _, first = np.unique(table.groups[members], return_index=True)
    spread = members[np.sort(first)]
    picks = spread[np.linspace(0, len(spread) - 1, min(_PER_CLASS, len(spread))).astype(int)] if len(spread) else []
    tiles = [resized(table.images.read(int(pick)), _TILE) for pick in picks]
    tiles += [np.full((_TILE, _TILE, 3), 255, np.uint8)] * (_PER_CLASS - len(tiles))
    return np.concatenate([_title(f"{table.classes[label]} ({len(members)})"), np.concatenate(tiles, axis=1)], axis=0)


def _title(text: str) -> Pixels:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (_TILE * _PER_CLASS, 18), "white")
    ImageDraw.Draw(strip).text((4, 3), text.encode("latin-1", "replace").decode("latin-1"), fill="black")
    return np.asarray(strip)
