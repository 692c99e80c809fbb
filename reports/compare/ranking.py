"""What is best under each condition, and what the paired test cannot tell apart from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure.columns import column
from bench.measure.statistics.methods import TOO_NARROW
from reports.compare.pairing import Contrast, against
from reports.load.source import Source
from reports.tables.grid import Condition, Row, conditions


@dataclass(frozen=True)
class Ranking:
    """One condition's models by mean test accuracy.

    Attributes:
        rows: with metrics, best first.
        contrasts: the best minus each other one that could be paired.
        chosen: the model that the validation accuracy alone would have picked; "" when histories are lost.
    """

    condition: Condition
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    chosen: str

    @property
    def best(self) -> Row | None:
        """The row with the highest mean test accuracy."""
        return self.rows[0] if self.rows else None

    @property
    def beaten(self) -> list[Contrast]:
        """The others that the best one is significantly better than."""
        return [entry for entry in self.contrasts if entry.significant and entry.difference.value > 0]

    @property
    def level(self) -> list[Contrast]:
        """The others that the test cannot tell apart from the best one."""
        return [entry for entry in self.contrasts if not entry.significant]

    @property
    def marked(self) -> set[str]:
        """Models in bold: the best and those not significantly different from it; none where nothing was tested."""
        if self.best is None or not self.contrasts:
            return set()
        return {self.best.model, *(entry.row.model for entry in self.level)}

    @property
    def verdict(self) -> str:
        """One sentence on the best one; the test counts that it was picked by the same images."""
        if self.best is None:
            return "no cell has a result"
        if not self.contrasts:
            return "nothing to compare it with"
        narrow = any(entry.difference.narrow for entry in self.contrasts)
        return self._standing() + (f" (tested over {TOO_NARROW})" if narrow else "")

    def _standing(self) -> str:
        tested = len(self.contrasts)
        if len(self.beaten) == tested:
            others = {1: "the other one", 2: "both others"}.get(tested, f"all {tested} others")
            return f"significantly better than {others}"
        near = sorted(self.level, key=lambda entry: -entry.adjusted)[0]
        rest = f"not significantly different from {near.row.model}"
        more = f" and {len(self.level) - 1} more" if len(self.level) > 1 else ""
        won = f"; better than {len(self.beaten)} of {tested}" if self.beaten else ""
        return f"{rest}{more} ({p_equals(near.adjusted)}){won}"


def probability(p: float) -> str:
    """A p value as it is written: 0.03, 0.004, <0.001."""
    if not math.isfinite(p):
        return "–"
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.0095 else f"{p:.2f}"


def p_equals(p: float) -> str:
    """A p value in a sentence: "p = 0.03", "p < 0.001"."""
    written = probability(p)
    return f"p < {written[1:]}" if written.startswith("<") else f"p = {written}"


def rank(source: Source, table: Sequence[Row]) -> list[Ranking]:
    """Rank every condition's rows."""
    return [_ranking(source, condition, rows) for condition, rows in conditions(table).items()]


def _ranking(source: Source, condition: Condition, rows: Sequence[Row]) -> Ranking:
    known = [(row, row.metric("accuracy")) for row in rows]
    order = sorted(((row, found.mean) for row, found in known if found is not None), key=lambda pair: -pair[1])
    ranked = tuple(row for row, _ in order)
    contrasts = tuple(against(source, ranked[0], ranked[1:])) if ranked else ()
    return Ranking(condition, ranked, contrasts, _chosen(source, ranked))


def _chosen(source: Source, rows: Sequence[Row]) -> str:
    best = {row.model: _validation(source, row) for row in rows}
    known = {model: value for model, value in best.items() if value is not None}
    return max(known, key=lambda model: known[model]) if known else ""


def _validation(source: Source, row: Row) -> float | None:
    """Mean over cells of the best validation accuracy."""
    peaks = []
    for cell in row.done:
        values = [entry.get("val_accuracy") for entry in source.history(cell)]
        known = [value for value in values if value is not None]
        if not known:
            return None
        peaks.append(max(known))
    return sum(peaks) / len(peaks) if peaks else None


def with_interval(row: Row, name: str) -> str:
    """A row's metric as it is printed: "93.1 [91.0, 95.0]"."""
    found, about = row.metric(name), column(name)
    if found is None:
        return "–"
    if not math.isfinite(found.low):
        return about.text(found.mean)
    return f"{about.text(found.mean)} [{about.text(found.low)}, {about.text(found.high)}]{found.mark}"
