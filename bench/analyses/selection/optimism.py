"""Optimism of selection: what would choosing on the test set have seemed to gain?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.analyses.registry import Answer, Estimate


@dataclass(frozen=True)
class Candidate:
    """One of several that a choice is made among: an epoch, a trial, a model.

    Attributes:
        name: what it is.
        validation: its quality on validation, higher is better.
        test: the same metric on the test set.
    """

    name: str
    validation: float
    test: float


@dataclass(frozen=True)
class Choice:
    """A choice that was made once: the epoch of one cell, the trial of one sweep, the model of one data set and seed.

    Attributes:
        name: of what the choice was made for.
        candidates: in the order in which they came; of equally good ones the first is chosen.
    """

    name: str
    candidates: tuple[Candidate, ...]


def selection_optimism(candidates: Sequence[Candidate]) -> float | None:
    """Test quality of the candidate that the test set would have chosen, minus that of validation's choice.

    Never below 0. Candidates without both values are left out; fewer than two give None.
    """
    known = _known(candidates)
    if len(known) < 2:
        return None
    return max(one.test for one in known) - chosen(known).test


def chosen(candidates: Sequence[Candidate]) -> Candidate:
    """The first candidate with the highest validation metric. Raises ValueError for none at all."""
    return max(candidates, key=lambda one: one.validation)


def mean_optimism(choices: Sequence[Choice], kind: str) -> Answer:
    """The mean optimism of a run's choices of one kind.

    Args:
        choices: independent ones (seeds, data sets), each among several candidates.
        kind: what is chosen: "epoch", "protocol", "model".

    Returns:
        Column `optimism_of_KIND` with Student's t interval over the choices, cut at 0 (three or more); table `choices`.
    """
    rows = [_row(choice) for choice in choices]
    found = [row["optimism"] for row in rows if row["optimism"] is not None]
    lacking = [row["choice"] for row in rows if row["optimism"] is None]
    notes = [f"no {kind} chosen among two that have both values: {', '.join(lacking)}"] if lacking else []
    column = f"optimism_of_{kind}"
    if not found:
        return Answer({column: Estimate(None)}, {"choices": rows}, notes=notes or [f"no {kind} was chosen"])
    if len(found) < 3:
        notes.append(f"{len(found)} choices ({kind}): three or more are needed for an interval")
    return Answer({column: _mean(found)}, {"choices": rows}, notes=notes)


def _known(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in candidates if math.isfinite(one.validation) and math.isfinite(one.test)]


def _row(choice: Choice) -> dict[str, Any]:
    known = _known(choice.candidates)
    row: dict[str, Any] = {"choice": choice.name, "candidates": len(known),
                              "optimism": selection_optimism(known)}  # fmt: skip
    if len(known) < 2:
        return row | {"by_validation": None, "by_test": None}
    return row | {"by_validation": chosen(known).name, "by_test": max(known, key=lambda one: one.test).name}


def _mean(found: Sequence[float]) -> Estimate:
    from scipy.stats import t

    values = np.asarray(found, dtype=np.float64)
    mean, count = float(values.mean()), values.size
    if count < 3 or np.ptp(values) == 0:
        return Estimate(mean)
    reach = float(t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count))
    return Estimate(mean, max(0.0, mean - reach), mean + reach)
