"""How far a metric of the run lies below the baseline's: of one cell, or pooled over many.

Many cells see more than one: a loss that they share stands out of the noise of each. Cells of one dataset share their
test images, so pooling keeps their groups whole (`bench.measure.statistics.pooled`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.gate.baseline import Side, SideCell, dataset_of, pair
from bench.gate.verdict import ALPHA
from bench.measure.columns import column
from bench.measure.statistics.paired import Difference, normal_difference, sign_flip
from bench.measure.statistics.pooled import Paired, difference, group_steps, mean_difference
from bench.measure.statistics.student import student_quantile

# What the baseline file's six digits can hide.
EQUAL = 2e-6
UNPAIRED = "two intervals, unpaired"
POWER = 0.8
# The flips of five groups are never below 1/32, which no adjustment survives, however large the loss; t's tails do.
FEWEST_FLIPS = 10


@dataclass(frozen=True)
class Loss:
    """Now minus base, turned so that a loss is negative.

    Attributes:
        low, high: 90 % bounds, stored units.
        p: one-sided, of "nothing was lost".
        detectable: the true loss that this test finds four times out of five, stored units.
    """

    low: float
    high: float
    p: float
    detectable: float
    method: str


@dataclass(frozen=True)
class Pairs:
    """One metric of some cells on both sides: the cells' names, their predictions where paired, their differences."""

    metric: str
    names: tuple[str, ...]
    paired: Mapping[str, Paired]
    steps: Mapping[str, Difference]
    classes: Mapping[str, tuple[str, ...]]


def compared(metric: str, names: Sequence[str], base: Side, now: Side) -> Pairs:
    """The differences of one metric by cell; cells without an interval on both sides are left out.

    Args:
        metric: a quality column.
        names: of cells that both sides have.
        base, now: the two sides.
    """
    paired = {name: found for name in names if (found := pair(base, now, name)) is not None}
    # A file keeps decisions alone: what needs probabilities is compared there by intervals.
    usable = paired if base.has_probabilities or not column(metric).needs_probabilities else {}
    steps = {}
    for name in names:
        sides = base.cells[name], now.cells[name]
        step = (
            difference(metric, [usable[name]], sides[1].classes)
            if name in usable
            else _interval_step(metric, *sides, paired.get(name))
        )
        if step is not None:
            steps[name] = step
    told = tuple(name for name in names if name in steps)
    return Pairs(metric, told, usable, steps, {name: now.cells[name].classes for name in told})


def _interval_step(metric: str, base: SideCell, now: SideCell, paired: Paired | None) -> Difference | None:
    """From the two 95 % intervals as if the test sets were independent: cautious when they are the same.

    Equal values from equal decisions on the same images are one result, whatever the intervals.
    """
    step = _value(now, metric) - _value(base, metric)
    if paired is not None and abs(step) < EQUAL and bool((paired.first.argmax(1) == paired.second.argmax(1)).all()):
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0, "equal decisions and values")
    errors = [side.errors.get(metric) for side in (base, now)]
    if errors[0] is None or errors[1] is None:
        return None
    return normal_difference(step, math.hypot(errors[0], errors[1]), UNPAIRED)


def _value(side: SideCell, metric: str) -> float:
    value = (side.metrics or {}).get(metric)
    return math.nan if value is None else value


def loss(pairs: Pairs) -> Loss:
    """The loss over all cells of `pairs`, each image (accuracy) or each dataset (other metrics) counting alike."""
    step = _pooled(pairs)
    sign = -1.0 if column(pairs.metric).better == "low" else 1.0
    reach = student_quantile(1 - ALPHA, step.freedom) * step.error
    found = (student_quantile(1 - ALPHA, step.freedom) + student_quantile(POWER, step.freedom)) * step.error
    middle = sign * step.value
    return Loss(middle - reach, middle + reach, _p(pairs, step, sign), found, step.method)


def _pooled(pairs: Pairs) -> Difference:
    if len(pairs.names) == 1:
        return pairs.steps[pairs.names[0]]
    if any(name not in pairs.paired for name in pairs.names):
        return _cautious([pairs.steps[name] for name in pairs.names])
    if pairs.metric == "accuracy":
        return difference(pairs.metric, _parts(pairs), ())
    datasets: dict[tuple[str, tuple[str, ...]], list[Paired]] = {}
    for name in pairs.names:
        datasets.setdefault((dataset_of(name), pairs.classes[name]), []).append(pairs.paired[name])
    found = [difference(pairs.metric, parts, classes) for (_, classes), parts in datasets.items()]
    return found[0] if len(found) == 1 else mean_difference(found)


def _parts(pairs: Pairs) -> list[Paired]:
    return [pairs.paired[name] for name in pairs.names]


def _cautious(steps: Sequence[Difference]) -> Difference:
    """The mean of differences whose dependence is unknown: as if all erred together."""
    value, spread = (float(np.mean([getattr(step, name) for step in steps])) for name in ("value", "error"))
    free = min(step.freedom for step in steps)
    return replace(normal_difference(value, spread, f"mean of cells, {UNPAIRED}"), freedom=free)


def _p(pairs: Pairs, step: Difference, sign: float) -> float:
    """One-sided p of a loss. Accuracy: exact sign flips of groups, where they are enough to find anything."""
    from scipy.stats import t

    if pairs.metric == "accuracy" and all(name in pairs.paired for name in pairs.names):
        steps = group_steps(_parts(pairs))
        if steps.size >= FEWEST_FLIPS or not step.error:
            return sign_flip(steps)[1]
    if step.error == 0:
        return 1.0 if sign * step.value >= 0 else 0.0
    return float(t.cdf(sign * step.value / step.error, step.freedom))
