"""Federated cells against their centralized twins: the gap, the worst client, and what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure.statistics import Difference
from reports.ablation import points, reach
from reports.columns import column
from reports.grid import Row
from reports.markup import Entry, Grid, grid
from reports.pairing import accuracy_contrast, match
from reports.ranking import probability, with_interval
from reports.source import Source

# The twin makes the clients' passes with the clients' optimizer; where it was not run, the plain cell stands in.
TWINS = ("twin", "centralized")
COSTS = ("rounds", "up_mb", "down_mb", "worst_client_accuracy")


@dataclass(frozen=True)
class Gap:
    """A federated row, its centralized twin if it was run, and federated minus centralized on the same images."""

    row: Row
    twin: Row | None
    difference: Difference | None


def gaps(source: Source, table: Sequence[Row]) -> list[Gap]:
    """Every federated row with its twin."""
    return [_gap(source, row, table) for row in table if row.condition.regime not in TWINS]


def _gap(source: Source, row: Row, table: Sequence[Row]) -> Gap:
    twins = sorted(
        (other for other in table if _is_twin(row, other)), key=lambda other: TWINS.index(other.condition.regime)
    )
    twin = twins[0] if twins else None
    found = accuracy_contrast(match(source, row, twin)) if twin is not None else None
    return Gap(row, twin, found)


def _is_twin(row: Row, other: Row) -> bool:
    here, there = row.condition, other.condition
    same = (row.model, here.dataset, here.split) == (other.model, there.dataset, there.split)
    return same and there.regime in TWINS and _recipe(row) == _recipe(other)


def _recipe(row: Row) -> dict[str, Any]:
    protocol: dict[str, Any] = row.cells[0].spec["protocol"]
    return {name: value for name, value in protocol.items() if name != "federated"}


def gap_table(found: Sequence[Gap]) -> Grid | None:
    """The gaps as a table; None when nothing is federated."""
    if not found:
        return None
    head = ["Model", "Dataset", "Regime", "Accuracy", "Twin", "Gap", "95 %", "p"]
    head += [f"{column(name).title} {column(name).unit}".strip() for name in COSTS]
    body = [_line(gap) for gap in found]
    notes = (
        "Twin: the regime `twin` (centralized, with the clients' optimizer and number of passes) where it was run, "
        "else `centralized`. Gap: federated minus twin accuracy in percentage points, on the same test images; p by "
        "exact sign flips of groups, not adjusted. Sent: all clients together, all rounds.",
    )
    return grid("federated", "Federated against centralized", head, body, "lll" + "r" * (len(head) - 3), notes)


def _line(gap: Gap) -> list[Entry | str]:
    row, step = gap.row, gap.difference
    condition = row.condition
    regime = " ".join(part for part in (condition.regime, condition.variant) if part)
    twin = "not run" if gap.twin is None else with_interval(gap.twin, "accuracy")
    ours = with_interval(row, "accuracy") if row.done else row.problem
    figures = [row.figure(name) for name in COSTS]
    costs = [column(name).text(found.mean if found else None) for name, found in zip(COSTS, figures, strict=True)]
    if step is None:
        return [row.model, condition.dataset, regime, ours, twin, "–", "–", "–", *costs]
    value = Entry(points(step.value), bold=step.p < 0.05)
    return [row.model, condition.dataset, regime, ours, twin, value, reach(step), probability(step.p), *costs]
