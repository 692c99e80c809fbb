"""The page of `bench predict`: a card an image, with its heat map and what is to be thought of the answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bench
from bench.core.atomic import write_text
from reports.html.page import render, text

MOST_CARDS = 300
"""Images that one page shows; the table has all of them."""


def write_predicted(path: Path, cell: Any, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: of the page.
        cell: the finished cell that answered.
        rows: as `bench.cli.analyze.as_row` makes them.
        notes: what is not known, a sentence each.
    """
    write_text(path, predicted_page(cell.spec.name, cell.classes, rows, notes))


def predicted_page(name: str, classes: Sequence[str], rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """The page's HTML: one file, no network.

    Args:
        name: of the cell.
        classes: its k class names.
        rows: as `bench.cli.analyze.as_row` makes them.
        notes: what is not known, a sentence each.
    """
    unlike = sum(bool(row["unlike"]) for row in rows)
    return render(
        "predict.html",
        name=name,
        count=len(rows),
        unlike=unlike,
        left=max(0, len(rows) - MOST_CARDS),
        notes=notes,
        cards=[_card(row, classes) for row in rows[:MOST_CARDS]],
        css=text("page.css"),
        foot=f"Drawn by deepmedix-bench {bench.__version__}; for research, no answer is a diagnosis.",
    )


def _card(row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    kind = "calibrated" if row[f"calibrated_{classes[0]}"] is not None else "p"
    bars = [] if row["class"] is None else [(name, 100 * row[f"{kind}_{name}"]) for name in classes]
    return {
        "title": Path(row["image"]).name,
        "class": row["class"],
        "problem": row["problem"],
        "bars": [(name, f"{share:.1f}") for name, share in sorted(bars, key=lambda bar: -bar[1])],
        "calibrated": kind == "calibrated",
        "set": row["set"],
        "unlike": row["unlike"],
        "distance": row["distance"],
        "address": _address(row["heat_map"]),
    }


def _address(path: str | None) -> str:
    """A PNG as a `data:` address; "" where there is none."""
    return "" if path is None else f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"
