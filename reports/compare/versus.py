"""Two models on the same images: McNemar, DeLong, the clustered jackknife, and the images on which they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.measure.columns import QUALITY, column, names_of
from bench.measure.statistics.across import wilcoxon
from bench.measure.statistics.paired import Difference, Mcnemar, holm, mcnemar, smallest_difference
from bench.measure.statistics.pooled import Paired, clusters_of, difference, differences
from reports.compare.pairing import Match, match
from reports.compare.ranking import p_equals, probability
from reports.load.source import Source, load
from reports.tables.grid import Condition, Row, conditions, rows
from reports.tables.markup import Entry, Grid, grid


@dataclass(frozen=True)
class Discordant:
    """An image that only one of the two decides rightly."""

    image: str
    group: str
    label: str
    first: str
    second: str
    first_right: bool


@dataclass(frozen=True)
class Versus:
    """A against B under one condition.

    Attributes:
        values: both values of every tested column, in stored units.
        differences: A minus B, and the p value Holm-adjusted over the columns.
        mcnemar: a test a seed and fold (seeds share images, so they are not added up); by seed.
        problem: why nothing could be compared; "" when it could.
    """

    condition: Condition
    first: Row
    second: Row
    problem: str
    images: int = 0
    units: str = ""
    values: dict[str, tuple[float, float]] | None = None
    differences: dict[str, tuple[Difference, float]] | None = None
    mcnemar: dict[str, Mcnemar] | None = None
    smallest: float = 0.0
    discordant: tuple[Discordant, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A against B over a run, and Wilcoxon's p over its datasets (NaN below 2)."""

    first: str
    second: str
    entries: tuple[Versus, ...]
    wilcoxon: float
    source: Source


def compare(run: Path, first: str, second: str) -> Comparison:
    """Compare two models of a run under every condition that both have.

    Args:
        run: the run's folder.
        first, second: names of the models; differences are the first's minus the second's.

    Raises:
        UserError: no run, a model that the run does not have, or no condition that both have.
    """
    source = load(run)
    table = rows(source.cells)
    known = dict.fromkeys(row.model for row in table)
    for name in (first, second):
        if name not in known:
            raise UserError(f"{run} has no model {name!r}; {near_matches(name, known)}")
    if first == second:
        raise UserError(f"compare takes two different models, not {first} twice")
    pairs = []
    for condition, members in conditions(table).items():
        by_model = {row.model: row for row in members}
        if first in by_model and second in by_model:
            pairs.append((condition, by_model[first], by_model[second]))
    if not pairs:
        raise UserError(f"{first} and {second} were never run under the same condition in {run}")
    entries = tuple(versus(source, *pair) for pair in pairs)
    return Comparison(first, second, entries, _over_datasets(entries), source)


def versus(source: Source, condition: Condition, first: Row, second: Row) -> Versus:
    """A row against another on the images that both were tested on.

    Args:
        source: the run.
        condition: what the comparison is called by; the rows may have been fitted under two.
        first: A.
        second: B.
    """
    found = match(source, first, second)
    if not found.parts:
        return Versus(condition, first, second, first.problem or second.problem or found.problem)
    differences = _differences(found)
    count, unit = clusters_of(found.parts)
    images = sum(part.labels.size for part in found.parts)
    values = {name: (_mean(first, name), _mean(second, name)) for name in differences}
    accuracy = differences["accuracy"][0]
    smallest = smallest_difference(accuracy.error, images, accuracy.freedom)
    return Versus(
        condition, first, second, "", images, f"{count:,} {unit}s", values, differences,
        _mcnemar(found), smallest, tuple(_discordant(found)),
    )  # fmt: skip


def _mean(row: Row, name: str) -> float:
    measured = row.metric(name)
    return measured.mean if measured else float("nan")


def _differences(found: Match) -> dict[str, tuple[Difference, float]]:
    every = differences(found.parts, found.classes)
    every |= {name: difference(name, found.parts, found.classes) for name in ("accuracy", "roc_auc")}
    tested = {name: every[name] for name in names_of(*QUALITY) if not column(name).same_as}
    adjusted = holm([step.p for step in tested.values()])
    return {name: (step, p) for (name, step), p in zip(tested.items(), adjusted, strict=True)}


def _mcnemar(found: Match) -> dict[str, Mcnemar]:
    tests = {}
    for number, part in enumerate(found.parts):
        right = [shares.argmax(axis=1) == part.labels for shares in (part.first, part.second)]
        tests[str(number)] = mcnemar(right[0], right[1])
    return tests


def _discordant(found: Match) -> list[Discordant]:
    seen: dict[str, Discordant] = {}
    for part in found.parts:
        for entry in _parting(part, found.classes):
            seen.setdefault(entry.image, entry)
    return sorted(seen.values(), key=lambda entry: (entry.first_right, entry.label, entry.image))


def _parting(part: Paired, classes: Sequence[str]) -> list[Discordant]:
    one, two = part.first.argmax(axis=1), part.second.argmax(axis=1)
    places = np.flatnonzero((one == part.labels) != (two == part.labels))
    return [
        Discordant(
            str(part.ids[i]), str(part.groups[i]), classes[part.labels[i]], classes[one[i]], classes[two[i]],
            bool(one[i] == part.labels[i]),
        )
        for i in places
    ]  # fmt: skip


def _over_datasets(entries: Sequence[Versus]) -> float:
    known = [entry.values["accuracy"] for entry in entries if entry.values is not None]
    return wilcoxon([first for first, _ in known], [second for _, second in known]) if known else float("nan")


def table(entry: Versus, first: str, second: str) -> Grid:
    """The comparison under one condition as a table.

    Args:
        entry: the comparison.
        first, second: names of the models.
    """
    body: list[list[Entry | str]] = []
    for name, (step, p) in (entry.differences or {}).items():
        about, values = column(name), (entry.values or {})[name]
        signed = [_signed(about.scale * value, about.digits) for value in (step.value, step.low, step.high)]
        body.append([
            about.title, about.text(values[0]), about.text(values[1]), Entry(signed[0], bold=p < 0.05),
            f"[{signed[1]}, {signed[2]}]", probability(step.p), probability(p), step.method,
        ])  # fmt: skip
    notes = [
        f"{entry.images:,} predictions of {entry.units}; A minus B on the same images. Smallest accuracy difference "
        f"that these images would show four times out of five: {100 * entry.smallest:.1f} points.",
        *(_mcnemar_note(number, test, entry) for number, test in (entry.mcnemar or {}).items()),
    ]
    head = ["Metric", f"A: {first}", f"B: {second}", "A − B", "95 %", "p", "p (Holm)", "by"]
    return grid("compare", entry.condition.name, head, body, "lrrrrrrl", notes)


def _mcnemar_note(number: str, test: Mcnemar, entry: Versus) -> str:
    kind = "exact" if test.exact else "with continuity correction"
    cell = entry.first.done[int(number)].spec if int(number) < len(entry.first.done) else {}
    place = f"seed {cell.get('seed', '?')}, {cell.get('split', '')}"
    return (
        f"McNemar ({place}): only A right on {test.only_a} images, only B on {test.only_b}; "
        f"{p_equals(test.p)} ({kind}, images taken as independent)."
    )


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if value == value else "–"


def as_json(found: Comparison) -> dict[str, Any]:
    """Everything, with None for what is not a number."""
    return {
        "run": str(found.source.path), "first": found.first, "second": found.second,
        "wilcoxon_p": _finite(found.wilcoxon), "conditions": [entry_as_json(entry) for entry in found.entries],
        "problems": found.source.problems,
    }  # fmt: skip


def entry_as_json(entry: Versus) -> dict[str, Any]:
    """One comparison, with None for what is not a number."""
    plain: dict[str, Any] = {"condition": entry.condition.name, "problem": entry.problem, "images": entry.images}
    if entry.differences is None:
        return plain
    columns = {
        name: {
            **{part: _finite(getattr(step, part)) for part in ("value", "low", "high", "error", "p")},
            "p_holm": _finite(p), "method": step.method, "better": column(name).better,
            "first": _finite((entry.values or {})[name][0]), "second": _finite((entry.values or {})[name][1]),
        }
        for name, (step, p) in entry.differences.items()
    }  # fmt: skip
    tests = [vars(test) for test in (entry.mcnemar or {}).values()]
    return {
        **plain, "units": entry.units, "smallest_accuracy_difference": entry.smallest, "columns": columns,
        "mcnemar": tests, "discordant": [vars(image) for image in entry.discordant],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
