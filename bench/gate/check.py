"""`bench check`: hold a run against a baseline, metric by metric, with tests where both sides can be tested."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.errors import UserError
from bench.data.audit.cell import audit_sentences
from bench.gate.baseline import Side, SideCell, load_side
from bench.gate.losses import Pairs, compared, loss
from bench.gate.margins import Margins, load_margins
from bench.gate.verdict import ALPHA, Check, Outcome, Verdict
from bench.measure.columns import column, names_of
from bench.measure.statistics.paired import holm
from bench.store.run import Run


def check(run: Path, baseline: Path, margins: Path | None = None, cells: str = "*") -> Check:
    """Hold a run against a baseline: a file that `update` wrote, or another run's folder.

    Quality is tested by a paired non-inferiority test where both sides have predictions of the same images, else by
    the two intervals; parameters, MACs and FLOPs exactly. All quality tests of a check are one family, so that a run
    that changed nothing is called worse in at most 5 % of checks, whatever its size.

    Args:
        margins: TOML file of margins; its metrics are the family.
        cells: a pattern on readable names; what it leaves out is no part of the family.

    Args:
        run: the run's folder.
        baseline: the file, or another run's folder.
        margins: a TOML file of losses that are accepted; None: the defaults.

    Raises:
        UserError: either side cannot be read, they share no cell, or no cell matches.
    """
    limits = load_margins(margins)
    now, base = load_side(run), load_side(baseline)
    base = replace(base, cells={name: cell for name, cell in base.cells.items() if fnmatch.fnmatchcase(name, cells)})
    if not base.cells:
        raise UserError(
            f"no cell of {baseline} matches {cells!r}; cells read 'model · dataset · split · regime · seed 0'"
        )
    if not set(base.cells) & set(now.cells):
        raise UserError(f"{run} and {baseline} share no cell; run the same grid, or write a new baseline with --update")
    return Check(str(run), str(baseline), hold(base, now, limits), _audit_notes(run))


def _audit_notes(run: Path) -> tuple[str, ...]:
    if not run.is_dir():
        return ()
    done = [cell for cell in Run.open(run).cells() if cell.result is not None]
    return tuple(audit_sentences((cell.spec, (cell.result or {})["data"]) for cell in done))


def hold(base: Side, now: Side, limits: Margins) -> tuple[Verdict, ...]:
    """Every metric of every cell of the baseline, decided: pooled over the cells first, then by cell."""
    known: list[Verdict] = []
    sound: list[str] = []
    for name in base.cells:
        blocked = _blocked(name, base, now)
        known += [blocked] if blocked else [_exact(name, cost, base, now) for cost in _counted(base.cells[name])]
        sound += [] if blocked else [name]
    singles: list[Verdict] = []
    pooled: list[Verdict] = []
    for metric in limits.quality:
        told, pairs = _by_cell(metric, sound, base, now, limits)
        singles += told
        if len(pairs.names) > 1:
            pooled.append(_tested(pairs, f"all {len(pairs.names)} cells", base, now, limits))
    return (*_family(pooled, singles), *known)


def _blocked(name: str, base: Side, now: Side) -> Verdict | None:
    """Why nothing of a cell can be held against the baseline; None where it can."""
    then, current = base.cells[name], now.cells.get(name)
    if current is None or current.metrics is None:
        why = "not in the run" if current is None else current.problem
        return Verdict(name, "all", "missing", None, None, why=why)
    if then.metrics is None:
        return Verdict(name, "all", "not comparable", None, None, why=f"no result in the baseline: {then.problem}")
    changed = then.changed(current)
    return Verdict(name, "all", "not comparable", None, None, why=changed) if changed else None


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


def _by_cell(metric: str, names: Sequence[str], base: Side, now: Side, limits: Margins) -> tuple[list[Verdict], Pairs]:
    """The verdicts of one metric by cell, not yet adjusted, and the pairs of the cells that could be tested."""
    both = [name for name in names if None not in _values(name, metric, base, now)]
    pairs = compared(metric, both, base, now)
    found = []
    for name in names:
        if name in pairs.names:
            found.append(_tested(replace(pairs, names=(name,)), name, base, now, limits))
            continue
        before, after = _values(name, metric, base, now)
        outcome: Outcome = "missing" if after is None and before is not None else "not comparable"
        why = "no interval on both sides" if name in both else "no value on both sides"
        found.append(Verdict(name, metric, outcome, before, after, why=why, margin=limits.quality[metric]))
    return found, pairs


def _values(name: str, metric: str, base: Side, now: Side) -> tuple[float | None, float | None]:
    before, after = ((side.cells[name].metrics or {}).get(metric) for side in (base, now))
    return before, after


def _tested(pairs: Pairs, told: str, base: Side, now: Side, limits: Margins) -> Verdict:
    """One test; `same` stands for "not tested yet"."""
    found = loss(pairs)
    values = [_values(name, pairs.metric, base, now) for name in pairs.names]
    before, after = (math.fsum(pair[side] or 0.0 for pair in values) / len(values) for side in (0, 1))
    return Verdict(
        told, pairs.metric, "same", before, after, found.low, found.high, found.p, found.method,
        limits.quality[pairs.metric], found.detectable,
    )  # fmt: skip


def _family(pooled: Sequence[Verdict], singles: Sequence[Verdict]) -> list[Verdict]:
    """Adjust the losses over the whole check, then decide.

    Half of the 5 % goes to the pooled tests, half to the cells' (Holm within each); where every pooled loss is
    significant, the cells are tested at 5 % (the fallback procedure: Wiens and Dmitrienko 2005).
    """
    if not pooled:
        return [_decide(verdict, p) for verdict, p in zip(singles, holm([v.p for v in singles]), strict=True)]
    first = [min(1.0, 2 * p) for p in holm([verdict.p for verdict in pooled])]
    passed = max(first)
    second = [min(2 * p, max(passed, p), 1.0) for p in holm([verdict.p for verdict in singles])]
    return [_decide(v, p) for v, p in zip((*pooled, *singles), (*first, *second), strict=True)]


def _decide(verdict: Verdict, p: float) -> Verdict:
    """Worse: a significant loss that may exceed the margin. Same: any loss is surely inside it. Else undecided."""
    if verdict.low is None:
        return verdict
    low, margin = verdict.low, verdict.margin or 0.0
    if low > -margin or verdict.low == verdict.high == 0:
        return replace(verdict, outcome="better" if low > 0 else "same", p=p)
    if p < ALPHA:
        return replace(verdict, outcome="worse", p=p)
    return replace(verdict, outcome="undecided", p=p, why=f"{verdict.why}; {_power(verdict)}")


def _power(verdict: Verdict) -> str:
    """What the test set could tell, in the units that tables show."""
    scale = column(verdict.metric).scale
    lost, margin, found = (scale * (value or 0.0) for value in (verdict.low, verdict.margin, verdict.detectable))
    return (
        f"a loss of {-lost:.3g} is not excluded, the margin is {margin:.3g}; "
        f"a true loss of {found:.3g} would be found four times out of five by this test alone"
    )
