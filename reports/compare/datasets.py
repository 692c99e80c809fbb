"""Across datasets: which models differ over all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.measure.statistics.across import Friedman, friedman
from reports.compare.ranking import probability
from reports.tables.grid import Row

MOST_MODELS = 30


def rankings_across(table: Sequence[Row], metric: str = "accuracy") -> list[tuple[str, Friedman]]:
    """Friedman's test for every split, regime and protocol with three models on three datasets or more, no gaps."""
    kinds: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    for row in table:
        measured, condition = row.metric(metric), row.condition
        if measured is not None:
            kind = (condition.split, condition.regime, condition.variant)
            kinds.setdefault(kind, {}).setdefault(row.model, {})[condition.dataset] = measured.mean
    found = [(" · ".join(part for part in kind if part), _tested(scores)) for kind, scores in kinds.items()]
    return [(name, result) for name, result in found if result is not None]


def _tested(scores: dict[str, dict[str, float]]) -> Friedman | None:
    """Over the datasets that the most models share; models with gaps are left out."""
    widest = max((set(by_dataset) for by_dataset in scores.values()), key=len)
    models = [model for model, by_dataset in scores.items() if set(by_dataset) >= widest][:MOST_MODELS]
    if len(models) < 3 or len(widest) < 3:
        return None
    return friedman(models, [[scores[model][dataset] for model in models] for dataset in sorted(widest)])


def across_entry(name: str, found: Friedman) -> dict[str, Any]:
    """For the page."""
    return {
        "name": name, "models": found.models, "ranks": found.ranks, "datasets": found.datasets,
        "p_text": probability(found.p), "critical_difference": found.critical_difference, "cliques": found.cliques,
    }  # fmt: skip
