"""The rows of every table: one model under one condition, averaged over its seeds and folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bench.data.audit.cell import CellAudit, cell_audit
from bench.measure.columns import COLUMNS, column, names_of
from bench.measure.statistics.methods import TOO_NARROW, interval_method
from bench.measure.statistics.student import student_quantile
from bench.store.cells import StoredCell
from bench.store.conditions import variants
from reports.tables.published import published_values

MIN_SEEDS = 3


@dataclass(frozen=True, order=True)
class Condition:
    """What cells must share to be compared: dataset, split (its folds taken together), regime and protocol.

    `variant` tells protocols (and states of a dataset) apart where a run has several; see bench/store/conditions.py.
    """

    dataset: str
    split: str
    regime: str
    variant: str

    @property
    def name(self) -> str:
        """What people read; the protocol's difference only where a run has several."""
        return " · ".join(part for part in (self.dataset, self.split, self.regime, self.variant) if part)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and what the interval speaks of: "seeds", "images" or "images, too narrow"."""

    mean: float
    low: float
    high: float
    deviation: float
    over: str

    @property
    def mark(self) -> str:
        """What stands behind the interval wherever it is printed; "" when it may be trusted."""
        return f" ({TOO_NARROW})" if TOO_NARROW in self.over else ""


@dataclass(frozen=True)
class Row:
    """One model under one condition.

    Attributes:
        cells: its cells, one a seed and fold, in whatever status.
        badges: what a reader must know wherever the row's metrics stand.
    """

    model: str
    condition: Condition
    cells: tuple[StoredCell, ...]
    badges: tuple[str, ...] = field(default=())

    @property
    def done(self) -> list[StoredCell]:
        """The cells with a result."""
        return [cell for cell in self.cells if cell.result is not None]

    @property
    def published(self) -> dict[str, float]:
        """What the paper prints for it, percent by column."""
        return published_values(self.model, self.condition.dataset)

    @property
    def problem(self) -> str:
        """Why cells have no result, one reason a status; "" when all have."""
        lost = [cell for cell in self.cells if cell.result is None]
        reasons = dict.fromkeys(f"{cell.status}: {_first_line(cell.problem)}" for cell in lost)
        return "; ".join(reasons)

    @property
    def count(self) -> str:
        """How many cells have a result: "3", or "2 of 3"."""
        done, every = len(self.done), len(self.cells)
        return str(done) if done == every else f"{done} of {every}"

    @cached_property
    def names(self) -> list[str]:
        """Every metric that at least one cell has."""
        found = {name for _, values in self._metrics for name in values}
        known = [name for name in names_of() if name in found]
        return known + sorted(found.difference(known))

    @cached_property
    def _metrics(self) -> list[tuple[StoredCell, dict[str, float]]]:
        """Each finished cell with its metrics."""
        return [(cell, _values(cell)) for cell in self.done]

    def metric(self, name: str) -> Interval | None:
        """Mean and interval of a metric over the cells that have it, None when none has."""
        values = [(cell, values.get(name)) for cell, values in self._metrics]
        known = [(cell, value) for cell, value in values if value is not None]
        return _interval(name, known) if known else None

    @property
    def interval_method(self) -> str:
        """How its cells' intervals were taken; several are separated by "; "."""
        return "; ".join(dict.fromkeys(interval_method(cell.result) for cell in self.done if cell.result is not None))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason was written"


def _values(cell: StoredCell) -> dict[str, float]:
    """Every number of a finished cell by its column."""
    result = cell.result or {}
    found: dict[str, Any] = {**result["metrics"], **result["cost"], **result["timing"], "seconds": result["seconds"]}
    added = set(result["intervals"])
    return {name: float(value) for name, value in found.items() if _is_metric(name, value, added)}


def _is_metric(name: str, value: object, added: set[str]) -> bool:
    """Known columns, and those that others add, which come with an interval."""
    known = column(name).listed if name in COLUMNS else name in added
    return known and isinstance(value, (int, float)) and math.isfinite(value)


def _interval(name: str, known: Sequence[tuple[StoredCell, float]]) -> Interval:
    """The wider of two: Student's t over three seeds or more, and the mean of the cells' own intervals.

    The first misses that all seeds may share one test set, the second that training has luck of its own. Where the
    second is over single images of one group, neither is wide enough, and the interval is marked.
    """
    values = np.array([value for _, value in known])
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    low, high = _stored_bounds(name, [cell for cell, _ in known])
    if len(values) >= MIN_SEEDS and name in COLUMNS and column(name).family not in ("cost", "time"):
        reach = student_quantile(0.975, len(values) - 1) * deviation / math.sqrt(len(values))
        if not math.isfinite(low) or 2 * reach > high - low:
            over = f"seeds; {TOO_NARROW}" if _too_narrow(known) else "seeds"
            return Interval(mean, *_bounded(name, mean - reach, mean + reach), deviation, over)
    over = TOO_NARROW if _too_narrow(known) else "images"
    return Interval(mean, low, high, deviation, over if math.isfinite(low) else "")


def _too_narrow(known: Sequence[tuple[StoredCell, float]]) -> bool:
    """Whether a cell's intervals are over the images of one group."""
    return any(TOO_NARROW in interval_method(cell.result) for cell, _ in known if cell.result is not None)


def _stored_bounds(name: str, cells: list[StoredCell]) -> tuple[float, float]:
    pairs = [(cell.result or {})["intervals"].get(name, (None, None)) for cell in cells]
    known = [(float(low), float(high)) for low, high in pairs if low is not None and high is not None]
    if len(known) < len(pairs) or not known:
        return math.nan, math.nan
    low, high = np.mean(known, axis=0)
    return float(low), float(high)


def _bounded(name: str, low: float, high: float) -> tuple[float, float]:
    """A share cannot leave 0..1, nor any column its limits."""
    lowest, highest = column(name).limits
    return max(lowest, low), min(highest, high)


def rows(cells: Sequence[StoredCell]) -> list[Row]:
    """Group cells over seeds and folds, in the order of their first cell."""
    labels = variants(cells)
    groups: dict[tuple[str, Condition], list[StoredCell]] = {}
    for cell in cells:
        spec = cell.spec
        condition = Condition(spec["dataset"], spec["split"].split(":")[0], spec["regime"], labels[cell.key])
        groups.setdefault((spec["model"], condition), []).append(cell)
    return [Row(model, condition, tuple(members), badges(members)) for (model, condition), members in groups.items()]


def conditions(table: Sequence[Row]) -> dict[Condition, list[Row]]:
    """Rows by condition, in order."""
    found: dict[Condition, list[Row]] = {}
    for row in table:
        found.setdefault(row.condition, []).append(row)
    return found


def audit_of(cell: StoredCell) -> CellAudit:
    """What the audit store says of a finished cell."""
    return cell_audit(cell.spec, (cell.result or {})["data"])


def badges(cells: Sequence[StoredCell]) -> tuple[str, ...]:
    """What stands beside metrics of a dataset that is synthetic, incomplete or leaks."""
    found: dict[str, None] = {}
    for cell in cells:
        if cell.result is not None:
            found.update(dict.fromkeys([*_data_badges(cell.result["data"]), audit_of(cell).badge]))
    return tuple(name for name in found if name)


def _data_badges(data: dict[str, Any]) -> list[str]:
    found = ["synthetic"] if data.get("synthetic") else []
    expected, images = data.get("expected"), data.get("images")
    if expected and images and images < expected:
        found.append(f"incomplete: {images:,} of {expected:,} images")
    found += data.get("cautions", [])
    return found
