"""Federated cells against their centralized twins: the gap, the way there, the worst client, and what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.measure.columns import QUALITY, column, names_of
from bench.measure.statistics.paired import Difference, holm
from bench.measure.statistics.pooled import difference
from bench.store.cells import StoredCell
from bench.store.conditions import twin_differences
from reports.compare.ablation import points, reach
from reports.compare.pairing import cell_place, match
from reports.compare.ranking import probability, with_interval
from reports.load.source import Source, load
from reports.tables.grid import Row, rows
from reports.tables.markup import Entry, Grid, grid

# The twin sees as many images as the clients, with their optimizer; where it was not run, the plain cell stands in.
TWINS = ("twin", "centralized")
COSTS = names_of("federated", level=2)
SHARES = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Gap:
    """A federated row against its centralized twin.

    Attributes:
        twin: the row that it is held against; None where no row matches.
        ours, theirs: the cells of both that share seed and test images.
        difference: federated minus centralized over those, on the same images; None where there are none.
        adjusted: its p value, Holm-adjusted over all gaps of the run.
        problem: why there is no gap, or what was left out of it; "" when nothing was.
    """

    row: Row
    twin: Row | None = None
    ours: Row | None = None
    theirs: Row | None = None
    difference: Difference | None = None
    adjusted: float = float("nan")
    problem: str = ""


def gaps(source: Source, table: Sequence[Row], metric: str = "accuracy") -> list[Gap]:
    """Every federated row with the twin of its own model, dataset, split and protocol.

    Args:
        metric: a quality column; `accuracy`, `balanced_accuracy` and `roc_auc` are quick.
    """
    found = [_gap(source, row, table, metric) for row in table if row.condition.regime not in TWINS]
    steps = [gap.difference for gap in found if gap.difference is not None]
    adjusted = iter(holm([step.p for step in steps]))
    return [gap if gap.difference is None else replace(gap, adjusted=float(next(adjusted))) for gap in found]


def _gap(source: Source, row: Row, table: Sequence[Row], metric: str) -> Gap:
    others = [other for regime in TWINS for other in table if other.condition.regime == regime and _same(row, other)]
    problem = "no twin was run: add the regime twin to the run"
    differing = {number: unlike(row, other) for number, other in enumerate(others)}
    if others and all(differing.values()):
        nearest = min(differing, key=lambda number: len(differing[number]))
        regime = others[nearest].condition.regime
        problem = f"no twin under this protocol: the regime {regime} was run with other {', '.join(differing[nearest])}"
    for other in (other for number, other in enumerate(others) if not differing[number]):
        pairs = match(source, row, other)
        if pairs.parts:
            step = difference(metric, pairs.parts, pairs.classes)
            ours, theirs = (_of_places(each, pairs.places) for each in (row, other))
            return Gap(row, other, ours, theirs, step, problem=pairs.problem or _left_out(row, ours))
        problem = f"{other.condition.regime}: {other.problem or row.problem or pairs.problem}"
    return Gap(row, problem=problem)


def _same(row: Row, other: Row) -> bool:
    here, there = row.condition, other.condition
    return (row.model, here.dataset, here.split) == (other.model, there.dataset, there.split)


def unlike(row: Row, other: Row) -> list[str]:
    """All cells of a row have one protocol, so that one of each will do; finished ones also know their data."""
    return twin_differences((row.done or list(row.cells))[0], (other.done or list(other.cells))[0])


def _of_places(row: Row, places: Sequence[tuple[str, int]]) -> Row:
    return replace(row, cells=tuple(cell for cell in row.done if cell_place(cell) in places))


def _left_out(row: Row, ours: Row) -> str:
    shared, every = len(ours.cells), len(row.done)
    return f"over the {shared} of {every} cells that the twin has too" if shared < every else ""


def gap_table(found: Sequence[Gap]) -> Grid | None:
    """The gaps as a table; None when nothing is federated."""
    if not found:
        return None
    head = ["Model", "Dataset", "Regime", "Accuracy", "Twin", "Gap", "95 %", "p (Holm)"]
    head += [f"{column(name).title} {column(name).unit}".strip() for name in COSTS]
    body = [_line(gap) for gap in found]
    notes = [
        "Twin: the regime `twin` (centralized, the clients' optimizer and number of images seen) where it was run "
        "under the same protocol, else `centralized`. Gap: federated minus twin accuracy in percentage points, on the "
        "same test images and seeds; p by exact sign flips of groups, Holm-adjusted over the table. Sent: all "
        "clients together, all rounds.",
        *dict.fromkeys(f"{name_of(gap)}: {gap.problem}." for gap in found if gap.problem),
    ]
    return grid("federated", "Federated against centralized", head, body, "lll" + "r" * (len(head) - 3), notes)


def name_of(gap: Gap) -> str:
    """The model and the condition, readable."""
    return f"{gap.row.model} · {gap.row.condition.name}"


def _line(gap: Gap) -> list[Entry | str]:
    row, step = gap.row, gap.difference
    condition = row.condition
    regime = " ".join(part for part in (condition.regime, condition.variant) if part)
    measured = [row.metric(name) for name in COSTS]
    costs = [column(name).text(found.mean if found else None) for name, found in zip(COSTS, measured, strict=True)]
    if step is None or gap.twin is None or gap.ours is None or gap.theirs is None:
        ours = with_interval(row, "accuracy") if row.done else row.problem
        return [row.model, condition.dataset, regime, ours, "none", "–", "–", "–", *costs]
    shown = [with_interval(each, "accuracy") for each in (gap.ours, gap.theirs)]
    twin = Entry(shown[1], under=gap.twin.condition.regime)
    value = Entry(points(step.value), bold=gap.adjusted < 0.05)
    return [row.model, condition.dataset, regime, shown[0], twin, value, reach(step), probability(gap.adjusted), *costs]


def gap_rows(folder: Path, metric: str = "accuracy") -> list[dict[str, Any]]:
    """A run's gaps as plain values, one a federated model and condition.

    Returns:
        Rows with `METRIC` and `twin` (means over the shared cells), `against` (the twin's regime), `gap` with `low`,
        `high`, `p` and `p_holm`, `seeds` (how many cells were paired), and for each share of the twin's best
        validation accuracy the rounds (`rounds_90`) and megabytes up and down (`mb_90`) to reach it; None where it was
        not reached or is not defined. `problem` says why a row has no gap.

    Raises:
        UserError: no run there, or an unknown column.
    """
    known = names_of(*QUALITY)
    if metric not in known:
        raise UserError(f"no quality column is called {metric!r}; {near_matches(metric, known)}")
    source = load(folder)
    return [_plain_row(source, gap, metric) for gap in gaps(source, rows(source.cells), metric)]


def _plain_row(source: Source, gap: Gap, metric: str) -> dict[str, Any]:
    condition, step = gap.row.condition, gap.difference
    row: dict[str, Any] = {"dataset": condition.dataset, "split": condition.split, "model": gap.row.model}
    row |= {"regime": condition.regime, "variant": condition.variant, "seeds": len(gap.ours.cells) if gap.ours else 0}
    row |= {metric: _mean(gap.ours or gap.row, metric), "twin": _mean(gap.theirs, metric)}
    row |= {"against": gap.twin.condition.regime if gap.twin else None}
    for name, attribute in (("gap", "value"), ("low", "low"), ("high", "high"), ("p", "p")):
        row[name] = None if step is None else _finite(getattr(step, attribute))
    row["p_holm"] = _finite(gap.adjusted)
    for share in SHARES:
        row |= _way(source, gap, share)
    return row | {"problem": gap.problem}


def _way(source: Source, gap: Gap, share: float) -> dict[str, float | None]:
    """Means over the shared cells; None as soon as one of them did not get there."""
    names = f"rounds_{share * 100:.0f}", f"mb_{share * 100:.0f}"
    reached = [_reached(source, cell, gap.theirs, share) for cell in gap.ours.cells] if gap.ours else []
    ways = [way for way in reached if way is not None]
    if not ways or len(ways) < len(reached):
        return dict.fromkeys(names)
    return {name: float(np.mean([way[place] for way in ways])) for place, name in enumerate(names)}


def _reached(source: Source, cell: StoredCell, theirs: Row | None, share: float) -> tuple[int, float] | None:
    twins = [other for other in (theirs.cells if theirs else ()) if cell_place(other) == cell_place(cell)]
    peaks = [row["val_accuracy"] for twin in twins for row in source.history(twin) if row.get("val_accuracy")]
    history = source.history(cell)
    if not peaks or not history or "round" not in history[0]:
        return None
    return to_reach(history, share * max(peaks))


def to_reach(history: Sequence[dict[str, Any]], target: float) -> tuple[int, float] | None:
    """The first round whose validation accuracy is at least `target`, and the megabytes sent until then."""
    sent = 0.0
    for row in history:
        sent += (row.get("up_mb") or 0.0) + (row.get("down_mb") or 0.0)
        accuracy = row.get("val_accuracy")
        if accuracy is not None and accuracy >= target:
            return int(row["round"]), sent
    return None


def _mean(row: Row | None, metric: str) -> float | None:
    found = row.metric(metric) if row else None
    return found.mean if found else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
