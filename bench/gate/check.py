"""`bench check`: hold a run against a baseline, metric by metric, with tests where both sides can be tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import UserError
from bench.data.audit.cell import audit_sentences
from bench.gate.baseline import Side, SideCell, load_side, pair
from bench.gate.margins import Margins, load_margins
from bench.measure.columns import column, names_of
from bench.measure.statistics.paired import Difference, holm, normal_difference, sign_flip
from bench.measure.statistics.pooled import Paired, difference
from bench.store.run import Run

Outcome = Literal["better", "worse", "same", "not comparable", "missing"]
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell (or of one model, for times).

    Attributes:
        cell: what it is, readable.
        base, now: the two figures; None where there is none.
        low, high: 90 % bounds of now minus base, so that each side is a one-sided 5 % test.
        p: chance of a loss as large as this one if nothing changed; NaN where nothing was tested.
        why: the reason of the outcome.
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
    unclear: bool = False


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

        A test set that is too small to tell a loss of the margin from noise is reported; only `strict` makes it 2.
        """
        if self.count("worse") or self.count("missing"):
            return 1
        blocked = [v for v in self.verdicts if v.outcome == "not comparable" and (strict or not v.unclear)]
        return 2 if blocked or not self.verdicts else 0


def check(run: Path, baseline: Path, margins: Path | None = None) -> Check:
    """Hold a run against a baseline: a file that `update` wrote, or another run's folder.

    Quality is tested by a paired non-inferiority test where both sides have predictions of the same images, else by
    the two intervals; parameters, MACs and FLOPs exactly. All quality tests of a check are one family (Holm), so that a
    run that changed nothing is called worse in at most 5 % of checks, whatever its size.

    Args:
        run: the run's folder.
        baseline: the file, or another run's folder.
        margins: a TOML file of losses that are accepted; None: the defaults.

    Raises:
        UserError: either side cannot be read, or they share no cell.
    """
    limits = load_margins(margins)
    now, base = load_side(run), load_side(baseline)
    if not set(base.cells) & set(now.cells):
        raise UserError(f"{run} and {baseline} share no cell; run the same grid, or write a new baseline with --update")
    return Check(str(run), str(baseline), hold(base, now, limits), _audit_notes(run))


def _audit_notes(run: Path) -> tuple[str, ...]:
    if not run.is_dir():
        return ()
    done = [cell for cell in Run.open(run).cells() if cell.result is not None]
    return tuple(audit_sentences((cell.spec, (cell.result or {})["data"]) for cell in done))


def hold(base: Side, now: Side, limits: Margins) -> tuple[Verdict, ...]:
    """Every metric of every cell of the baseline, decided; the losses are adjusted as one family."""
    found: list[Verdict] = []
    for name in base.cells:
        found += _cell_verdicts(name, base, now, limits)
    return tuple(_family(found))


def _cell_verdicts(name: str, base: Side, now: Side, limits: Margins) -> list[Verdict]:
    then, current = base.cells[name], now.cells.get(name)
    if current is None or current.metrics is None:
        why = "not in the run" if current is None else current.problem
        return [Verdict(name, "all", "missing", None, None, why=why)]
    if then.metrics is None:
        return [Verdict(name, "all", "not comparable", None, None, why=f"no result in the baseline: {then.problem}")]
    changed = then.changed(current)
    if changed:
        return [Verdict(name, "all", "not comparable", None, None, why=changed)]
    paired = pair(base, now, name)
    quality = [_quality(name, metric, paired, base, now, limits) for metric in limits.quality]
    return [*quality, *(_exact(name, cost, base, now) for cost in _counted(base.cells[name]))]


def _counted(cell: SideCell) -> list[str]:
    """The cost columns of a baseline's cell; all where it has none. A file lacks columns that are younger than it."""
    return [name for name in names_of("cost") if name in cell.cost] or list(names_of("cost"))


def _exact(name: str, cost: str, base: Side, now: Side) -> Verdict:
    then, current = base.cells[name].cost.get(cost), now.cells[name].cost.get(cost)
    if then is None or current is None:
        outcome: Outcome = "missing" if current is None and then is not None else "not comparable"
        return Verdict(name, cost, outcome, then, current, why="not measured on both sides")
    equal = math.isclose(then, current, rel_tol=1e-9, abs_tol=1e-12)
    outcome = "same" if equal else "worse" if current > then else "better"
    return Verdict(name, cost, outcome, then, current, why="counted exactly")


def _quality(name: str, metric: str, paired: Paired | None, base: Side, now: Side, limits: Margins) -> Verdict:
    then, current = (side.cells[name].metrics or {} for side in (base, now))
    before, after = then.get(metric), current.get(metric)
    margin = limits.quality[metric]
    if before is None or after is None:
        outcome: Outcome = "missing" if after is None and before is not None else "not comparable"
        return Verdict(name, metric, outcome, before, after, why="no figure on both sides", margin=margin)
    sign = -1.0 if column(metric).better == "low" else 1.0
    step = _paired_step(metric, paired, now.cells[name].classes, base.has_probabilities) if paired else None
    if step is None:
        step = _interval_step(metric, (before, after), base.cells[name], now.cells[name], paired)
    if step is None:
        return Verdict(name, metric, "not comparable", before, after, why="no interval on both sides", margin=margin)
    reach = _one_sided(step)
    low, high = step.value - reach, step.value + reach
    bounds = (low, high) if sign > 0 else (-high, -low)
    return Verdict(
        name,
        metric,
        "same",
        before,
        after,
        bounds[0],
        bounds[1],
        _loss_p(step, sign, paired, metric),
        step.method,
        margin,
    )


def _paired_step(metric: str, paired: Paired, classes: Sequence[str], probabilities: bool) -> Difference | None:
    """Now minus base on the same images; None where the baseline kept decisions only and the metric needs more."""
    if column(metric).needs_probabilities and not probabilities:
        return None
    return difference(metric, [paired], classes)


# What the baseline file's six digits can hide.
EQUAL = 2e-6


def _interval_step(
    metric: str, figures: tuple[float, float], base: SideCell, now: SideCell, paired: Paired | None
) -> Difference | None:
    """From the two 95 % intervals as if the test sets were independent: cautious when they are the same.

    Equal figures from equal decisions on the same images are one result, whatever the intervals.
    """
    step = figures[1] - figures[0]
    if paired is not None and abs(step) < EQUAL and bool((paired.first.argmax(1) == paired.second.argmax(1)).all()):
        return Difference(0.0, 0.0, 0.0, 0.0, 1.0, "equal decisions and figures")
    errors = [side.errors.get(metric) for side in (base, now)]
    if errors[0] is None or errors[1] is None:
        return None
    return normal_difference(step, math.hypot(errors[0], errors[1]), "two intervals, unpaired")


def _one_sided(step: Difference) -> float:
    """How far each bound of a one-sided 5 % test lies from the difference."""
    from scipy.stats import t

    return float(t.ppf(1 - ALPHA, step.freedom)) * step.error


def _loss_p(step: Difference, sign: float, paired: Paired | None, metric: str) -> float:
    """One-sided p of a loss. Accuracy: exact sign flips of groups; else Student's t."""
    from scipy.stats import t

    if paired is not None and metric == "accuracy":
        return sign_flip(_group_steps(paired))[1]
    if step.error == 0:
        return 1.0 if sign * step.value >= 0 else 0.0
    return float(t.cdf(sign * step.value / step.error, step.freedom))


def _group_steps(paired: Paired) -> Any:
    import numpy as np

    from bench.measure.statistics.clusters import clusters
    from bench.measure.statistics.paired import group_sums

    right = [(shares.argmax(axis=1) == paired.labels).astype(float) for shares in (paired.first, paired.second)]
    return np.rint(group_sums(right[0] - right[1], clusters(paired.groups)[0])).astype(int)


def _family(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Adjust the losses over the whole check, then decide."""
    tested = [index for index, verdict in enumerate(verdicts) if verdict.low is not None]
    adjusted = holm([verdicts[index].p for index in tested])
    decided = list(verdicts)
    for index, p in zip(tested, adjusted, strict=True):
        decided[index] = _decide(verdicts[index], p)
    return decided


def _decide(verdict: Verdict, p: float) -> Verdict:
    """Worse: a significant loss that may exceed the margin. Same: any loss is surely inside it. Else not clear."""
    low, margin = verdict.low or 0.0, verdict.margin or 0.0
    if low > -margin or verdict.low == verdict.high == 0:
        return replace(verdict, outcome="better" if low > 0 else "same", p=p)
    if p < ALPHA:
        return replace(verdict, outcome="worse", p=p)
    why = f"{verdict.why}; a loss of {-low:.3f} is not excluded, the margin is {margin:.3f}"
    return replace(verdict, outcome="not comparable", p=p, why=why, unclear=True)
