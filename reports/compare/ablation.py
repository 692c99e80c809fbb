"""The ablation: what each change to the full model costs, as paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure.columns import column, names_of
from bench.measure.statistics.methods import TOO_NARROW
from bench.measure.statistics.paired import Difference, holm, smallest_difference
from bench.measure.statistics.pooled import difference, mean_difference
from reports.compare.pairing import match
from reports.compare.ranking import probability
from reports.load.source import Source
from reports.tables.grid import Condition, Row, conditions
from reports.tables.markup import Entry, Grid, grid
from reports.tables.published import CHANGES, PAPER_MODELS, published_values

FULL = "deepmedix"
METRICS = names_of("quality", level=1)
POOLED = "all datasets"


@dataclass(frozen=True)
class Effect:
    """A variant minus the full model in one metric.

    Attributes:
        dataset: where, or `POOLED`.
        adjusted: p value, Holm-adjusted over the family: every variant and dataset of this metric.
        smallest: the smallest true difference in accuracy that these test images would show four times out of five.
        images: test images over all parts.
        published: the paper's difference in percentage points, where it prints both.
    """

    variant: str
    full: str
    dataset: str
    metric: str
    difference: Difference
    adjusted: float
    smallest: float
    images: int
    published: float | None

    @property
    def change(self) -> str:
        """What the variant changes, in words."""
        return CHANGES.get(self.variant.split("@")[0], self.variant)

    @property
    def paper_name(self) -> str:
        """The paper's name of the variant."""
        return PAPER_MODELS.get(self.variant.split("@")[0], self.variant)


@dataclass(frozen=True)
class Ablation:
    """Every effect under one split, regime, protocol and backbone, and what could not be compared."""

    name: str
    effects: tuple[Effect, ...]
    problems: tuple[str, ...]

    def of(self, metric: str) -> list[Effect]:
        """The effects on one metric."""
        return [effect for effect in self.effects if effect.metric == metric]


def ablations(source: Source, table: Sequence[Row]) -> list[Ablation]:
    """An ablation for each split, regime, protocol and backbone that has the full model and a variant of it."""
    families: dict[str, list[tuple[Condition, Row, list[Row]]]] = {}
    for condition, rows in conditions(table).items():
        for full, variants in _families(rows):
            name = " · ".join(
                part for part in (full.model, condition.split, condition.regime, condition.variant) if part
            )
            families.setdefault(name, []).append((condition, full, variants))
    return [_ablation(source, name, members) for name, members in families.items()]


def _families(rows: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """The full model of each backbone with its variants."""
    found = []
    for row in rows:
        head, _, backbone = row.model.partition("@")
        if head == FULL:
            variants = [other for other in rows if _is_variant(other.model, backbone)]
            if variants and row.done:
                found.append((row, variants))
    return found


def _is_variant(model: str, backbone: str) -> bool:
    head, _, other = model.partition("@")
    return head in PAPER_MODELS and head != FULL and other == backbone


def _ablation(source: Source, name: str, members: list[tuple[Condition, Row, list[Row]]]) -> Ablation:
    problems: list[str] = []
    effects: list[Effect] = []
    for condition, full, variants in members:
        for variant in variants:
            effects += _effects(source, condition, full, variant, problems)
    effects += _pooled(effects, len(members))
    adjusted = [effect for metric in METRICS for effect in _adjusted([e for e in effects if e.metric == metric])]
    return Ablation(name, tuple(adjusted), tuple(dict.fromkeys(problems)))


def _effects(source: Source, condition: Condition, full: Row, variant: Row, problems: list[str]) -> list[Effect]:
    found = match(source, variant, full)
    if found.problem:
        reason = variant.problem or found.problem
        problems.append(f"{variant.model} on {condition.dataset}: {reason}")
    if not found.parts:
        return []
    images = sum(part.labels.size for part in found.parts)
    effects = []
    for metric in METRICS:
        step = difference(metric, found.parts, found.classes)
        smallest = smallest_difference(step.error, images, step.freedom)
        printed = _printed(metric, variant.model, full.model, condition.dataset)
        effects.append(
            Effect(variant.model, full.model, condition.dataset, metric, step, step.p, smallest, images, printed)
        )
    return effects


def _printed(metric: str, variant: str, full: str, dataset: str) -> float | None:
    one, two = published_values(variant, dataset).get(metric), published_values(full, dataset).get(metric)
    return None if one is None or two is None else one - two


def _pooled(effects: Sequence[Effect], datasets: int) -> list[Effect]:
    """The mean over datasets, for the variants that were run on all of several."""
    if datasets < 2:
        return []
    groups: dict[tuple[str, str], list[Effect]] = {}
    for effect in effects:
        groups.setdefault((effect.variant, effect.metric), []).append(effect)
    return [_mean(group) for group in groups.values() if len(group) == datasets]


def _mean(group: Sequence[Effect]) -> Effect:
    first, images = group[0], sum(effect.images for effect in group)
    step = mean_difference([effect.difference for effect in group])
    smallest = smallest_difference(step.error, images, step.freedom)
    return Effect(first.variant, first.full, POOLED, first.metric, step, step.p, smallest, images, None)


def _adjusted(effects: Sequence[Effect]) -> list[Effect]:
    from dataclasses import replace

    return [
        replace(effect, adjusted=p)
        for effect, p in zip(effects, holm([effect.difference.p for effect in effects]), strict=True)
    ]


NOTES = (
    "Variant minus full model, percentage points, on the same images and seeds; 95 % interval by a jackknife over "
    "groups (DeLong's components for ROC-AUC). p: exact sign flips of groups (accuracy), Student's t (the others), "
    "Holm-adjusted over the table.",
    "Smallest: the true difference that these test images would show four times out of five.",
)


def tables(found: Ablation) -> list[Grid]:
    """A table a metric: a row a dataset and variant."""
    return [_table(found, metric) for metric in METRICS if found.of(metric)]


def _table(found: Ablation, metric: str) -> Grid:
    head = [
        "Model",
        "Change",
        "Dataset",
        f"Δ {column(metric).title}",
        "95 %",
        "p (Holm)",
        "Smallest",
        "Images",
        "Paper's Δ",
    ]
    body: list[list[Entry | str]] = [_line(effect) for effect in found.of(metric)]
    label = f"ablation-{metric.replace('_', '-')}"
    notes = [*NOTES, *found.problems]
    return grid(
        label, f"Ablation of {found.name}: {column(metric).title}", head, body, aligned="lllrrrrrr", notes=notes
    )


def _line(effect: Effect) -> list[Entry | str]:
    step = effect.difference
    return [
        effect.variant,
        effect.change,
        effect.dataset,
        Entry(points(step.value), bold=effect.adjusted < 0.05),
        reach(step),
        probability(effect.adjusted),
        f"{100 * effect.smallest:.1f}",
        f"{effect.images:,}",
        "–" if effect.published is None else f"{effect.published:+.2f}".replace("-", "−"),
    ]


def points(value: float) -> str:
    """A fraction as signed percentage points with a real minus."""
    return f"{100 * value:+.1f}".replace("-", "−") if value == value else "–"


def reach(step: Difference) -> str:
    """A difference's 95 % interval in percentage points, and whether it is too narrow."""
    if step.low != step.low:
        return "–"
    return f"[{points(step.low)}, {points(step.high)}]" + (f" ({TOO_NARROW})" if step.narrow else "")
