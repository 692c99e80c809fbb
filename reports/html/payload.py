"""What the HTML page draws, as plain JSON values; numbers are rounded to what a screen can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.measure.clients import VAL_CLIENT_COLUMNS
from bench.measure.columns import COLUMNS, Column, column, names_of
from bench.measure.quality import rarest_class
from bench.store.cells import StoredCell
from reports.compare.ranking import Ranking
from reports.figures.curves import by_site, confusion, reliability, roc_and_pr
from reports.html.answers import answered_columns
from reports.load.source import Source
from reports.tables.grid import Row

HISTORY = (
    "train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate",
    *VAL_CLIENT_COLUMNS, "up_mb", "down_mb",
)  # fmt: skip


def payload(
    source: Source, rows: Sequence[Row], rankings: Sequence[Ranking], references: Sequence[Row] = ()
) -> dict[str, Any]:
    """The page's data: columns, rows (one a model and condition) and cells (one a seed and fold).

    Args:
        source: the run.
        rows: of its models.
        rankings: one a condition.
        references: rows that need no image; of the leaderboard alone.
    """
    cells: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    answered = answered_columns(source)
    marked = {(ranking.condition, model) for ranking in rankings for model in ranking.marked}
    for number, row in enumerate(rows):
        first = len(cells)
        cells += [cell_entry(source, cell, number) for cell in row.cells]
        entries.append(row_entry(source, row, list(range(first, len(cells))), (row.condition, row.model) in marked))
    return {
        "columns": [column_entry(_described(name, answered)) for name in shown(rows)],
        "rows": entries,
        "references": [row_entry(source, row, [], False) for row in references],
        "cells": cells,
    }


def _described(name: str, answered: Mapping[str, str]) -> Column:
    """A column; one that an analysis brings says so."""
    about = column(name)
    if name not in answered:
        return about
    return replace(about, family="analyses", summary=f"From the analysis {answered[name]}.")


def shown(rows: Sequence[Row]) -> list[str]:
    """The leaderboard's columns: the known ones in their order, then added ones, without each class's recall."""
    present = dict.fromkeys(name for row in rows for name in row.names)
    added = [name for name in present if name not in COLUMNS and not name.startswith("recall_")]
    return [name for name in names_of() if name in present and not column(name).same_as] + added


def column_entry(about: Column) -> dict[str, Any]:
    """A column for the page."""
    names = ("name", "title", "head", "family", "better", "scale", "digits", "unit", "level")
    return {**{name: getattr(about, name) for name in names}, "about": about.summary}


def row_entry(source: Source, row: Row, cells: list[int], marked: bool) -> dict[str, Any]:
    """A leaderboard row; values as [mean, low, high, over] in stored units.

    Args:
        source: the run.
        row: the leaderboard's row.
        cells: the numbers of its cells in the page's list.
        marked: whether the paired test does not set it apart from the best.
    """
    values = {}
    for name in shown([row]):
        found = row.metric(name)
        if found is not None:
            values[name] = [rounded(found.mean), rounded(found.low), rounded(found.high), found.over]
    condition = row.condition
    return {
        "model": row.model, "dataset": condition.dataset, "split": condition.split, "regime": condition.regime,
        "variant": condition.variant, "count": row.count, "cells": cells, "values": values, "problem": row.problem,
        "badges": list(row.badges), "paper": row.published, "marked": marked, **class_recalls(source, row),
    }  # fmt: skip


def class_recalls(source: Source, row: Row) -> dict[str, Any]:
    """Each class's recall with its interval, and the rarest class; nothing when no cell is done."""
    if not row.done:
        return {"recalls": [], "rarest": ""}
    classes = (row.done[0].result or {})["data"]["classes"]
    recalls = []
    for name in classes:
        found = row.metric(f"recall_{name}")
        values = (found.mean, found.low, found.high) if found else (math.nan,) * 3
        recalls.append([name, *(rounded(value) for value in values)])
    known = [source.predictions(cell) for cell in row.done]
    labels = [given.labels for given in known if given is not None]
    return {"recalls": recalls, "rarest": rarest_class(np.concatenate(labels), classes) if labels else ""}


def cell_entry(source: Source, cell: StoredCell, row: int) -> dict[str, Any]:
    """A cell: what it is, its history, and the curves of its predictions.

    Args:
        source: the run.
        cell: the cell.
        row: the number of its row in the page's list.
    """
    entry: dict[str, Any] = {
        "key": cell.key, "row": row, "seed": cell.spec["seed"], "split": cell.spec["split"], "status": cell.status,
        "problem": cell.problem, "folder": str(cell.folder.name),
    }  # fmt: skip
    if cell.result is None:
        return entry
    data = cell.result["data"]
    entry |= {
        "classes": data["classes"], "test": data.get("n_test"), "groups": data.get("groups_test"),
        "notes": [str(note) for note in cell.result["notes"]], "history": history_entry(source, cell),
    }  # fmt: skip
    return entry | prediction_entry(source, cell)


def history_entry(source: Source, cell: StoredCell) -> dict[str, list[float | None]]:
    """The history by column; x is the epoch or the round."""
    rows = source.history(cell)
    if not rows:
        return {}
    step = "round" if "round" in rows[0] else "epoch"
    # Epochs are counted from 0 in the files, rounds from 1; people count from 1.
    first = 1 if rows[0].get(step) == 0 else 0
    found: dict[str, list[float | None]] = {"x": [(row.get(step) or 0) + first for row in rows]}
    for name in HISTORY:
        values = [rounded(row.get(name)) for row in rows]
        if any(value is not None for value in values):
            found[name] = values
    return found


def prediction_entry(source: Source, cell: StoredCell) -> dict[str, Any]:
    """Confusion counts, curves in thousandths, reliability bins and sites; nothing when predictions are lost."""
    found = source.predictions(cell)
    if found is None:
        return {}
    entry: dict[str, Any] = {"confusion": confusion(found).tolist(), "roc": [], "pr": []}
    for pair in roc_and_pr(found):
        for name, curve in zip(("roc", "pr"), pair or (None, None), strict=True):
            entry[name].append(None if curve is None else [thousandths(curve.x), thousandths(curve.y)])
    bins = reliability(found)
    entry["bins"] = [[entry_.images, rounded(entry_.confidence), rounded(entry_.accuracy)] for entry_ in bins]
    sites = by_site(found)
    return entry | ({"sites": {name: [n, rounded(share)] for name, (n, share) in sites.items()}} if sites else {})


def thousandths(values: Any) -> list[int]:
    """Fractions as whole thousandths."""
    whole: list[int] = np.rint(np.asarray(values) * 1000).astype(int).tolist()
    return whole


def rounded(value: Any) -> float | None:
    """Five significant digits; None for what is no finite number."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")
