"""A federated cell against its centralized twin, from a run's stored files alone, without torch and Flower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure.pooled import Paired, difference
from bench.store import Run, StoredCell

TWIN = "twin"
SHARES = (0.90, 0.95, 0.99)
Row = dict[str, Any]


def gap_rows(folder: Path, metric: str = "accuracy") -> list[Row]:
    """One row a model, dataset, split and regime: both values, the gap with its paired 95 % interval, the way there.

    Args:
        metric: a quality column; `accuracy` and `balanced_accuracy` are quick.

    Returns:
        Rows with `gap` = regime minus twin over the seeds that both have, `low`, `high`, `p`, and for each share of the
        twin's best validation accuracy the rounds (`rounds_90`) and megabytes up and down (`mb_90`) to reach it; None
        where it was not reached or is not defined.

    Raises:
        UserError: no run there, or files that cannot be read.
    """
    done = [cell for cell in Run.open(folder).cells() if cell.status == "done"]
    twins = {_place(cell): cell for cell in done if cell.spec["regime"] == TWIN}
    grouped: dict[tuple[str, ...], list[tuple[StoredCell, StoredCell]]] = {}
    for cell in done:
        twin = twins.get(_place(cell))
        if twin is None or cell is twin:
            continue
        key = tuple(str(cell.spec[name]) for name in ("dataset", "split", "model", "regime"))
        grouped.setdefault(key, []).append((cell, twin))
    return [_row(key, pairs, metric) for key, pairs in sorted(grouped.items())]


def to_reach(history: Sequence[Row], target: float) -> tuple[int, float] | None:
    """The first round whose validation accuracy is at least `target`, and the megabytes sent until then."""
    sent = 0.0
    for row in history:
        sent += (row.get("up_mb") or 0.0) + (row.get("down_mb") or 0.0)
        accuracy = row.get("val_accuracy")
        if accuracy is not None and accuracy >= target:
            return int(row["round"]), sent
    return None


def _row(key: tuple[str, ...], pairs: list[tuple[StoredCell, StoredCell]], metric: str) -> Row:
    dataset, split, model, regime = key
    parts = [_paired(cell, twin) for cell, twin in pairs]
    classes = pairs[0][0].result["data"]["classes"] if pairs[0][0].result else []
    found = difference(metric, parts, classes)
    row: Row = {"dataset": dataset, "split": split, "model": model, "regime": regime, "seeds": len(pairs)}
    row |= {metric: _mean(pairs, 0, metric), "twin": _mean(pairs, 1, metric)}
    row |= {"gap": found.value, "low": _finite(found.low), "high": _finite(found.high), "p": _finite(found.p)}
    for share in SHARES:
        row |= _way(pairs, share)
    return row


def _way(pairs: list[tuple[StoredCell, StoredCell]], share: float) -> Row:
    """Means over the seeds; None as soon as one seed did not get there."""
    reached: list[tuple[int, float] | None] = []
    for cell, twin in pairs:
        history = cell.history().to_pylist()
        if not history or "round" not in history[0]:
            reached.append(None)
            continue
        best = max(row["val_accuracy"] for row in twin.history().to_pylist())
        reached.append(to_reach(history, share * best))
    names = f"rounds_{share * 100:.0f}", f"mb_{share * 100:.0f}"
    if any(way is None for way in reached):
        return dict.fromkeys(names)
    ways = [way for way in reached if way is not None]
    return {names[0]: float(np.mean([rounds for rounds, _ in ways])), names[1]: float(np.mean([mb for _, mb in ways]))}


def _paired(cell: StoredCell, twin: StoredCell) -> Paired:
    first, second = cell.predictions(), twin.predictions()
    order = [np.argsort(np.asarray(table["image_id"].to_pylist()), kind="stable") for table in (first, second)]
    ids = np.asarray(first["image_id"].to_pylist())[order[0]]
    if not np.array_equal(ids, np.asarray(second["image_id"].to_pylist())[order[1]]):
        raise ValueError(f"{cell.key} and its twin {twin.key} were not predicted on the same images")
    return Paired(
        ids,
        np.asarray(first["group"].to_pylist()).astype(str)[order[0]],
        np.asarray(first["label"].to_pylist(), np.int64)[order[0]],
        _probabilities(first)[order[0]],
        _probabilities(second)[order[1]],
    )


def _probabilities(table: Any) -> np.ndarray[Any, Any]:
    columns = [name for name in table.column_names if name.startswith("p_")]
    return np.stack([np.asarray(table[name].to_pylist(), np.float64) for name in columns], axis=1)


def _place(cell: StoredCell) -> tuple[str, ...]:
    return tuple(str(cell.spec[name]) for name in ("dataset", "split", "model", "seed"))


def _mean(pairs: list[tuple[StoredCell, StoredCell]], side: int, metric: str) -> float | None:
    values = [pair[side].result["metrics"].get(metric) for pair in pairs if pair[side].result is not None]  # type: ignore[index]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
