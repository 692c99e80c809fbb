"""What a check found: an outcome a metric, and the whole of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["better", "worse", "same", "undecided", "not comparable", "missing"]
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell, of all cells together, or (for times) of one model.

    Attributes:
        cell: what it is, readable.
        base, now: the two values in stored units; None where there is none.
        low, high: 90 % bounds of now minus base, so that each side is a one-sided 5 % test.
        p: chance of a loss as large as this one if nothing changed; NaN where nothing was tested.
        why: the reason of the outcome.
        margin: the largest loss that still counts as held, stored units.
        detectable: the true loss that a test on these images would find four times out of five, stored units.
    """

    cell: str
    metric: str
    outcome: Outcome
    base: float | None
    now: float | None
    low: float | None = None
    high: float | None = None
    p: float = math.nan
    why: str = ""
    margin: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Check:
    """Everything that was held against the baseline.

    Attributes:
        notes: what a reader must know of the run's datasets: those that leak, or that nobody audited.
    """

    run: str
    baseline: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many metrics came out so."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    def exit_code(self, strict: bool = False) -> int:
        """0 held, 1 something is worse or missing, 2 something could not be compared.

        What the test set is too small to decide is reported; only `strict` makes it 2.
        """
        if self.count("worse") or self.count("missing"):
            return 1
        blocked = self.count("not comparable") + (self.count("undecided") if strict else 0)
        return 2 if blocked or not self.verdicts else 0
