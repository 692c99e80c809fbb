"""Discriminating power: can this data set tell these models apart, or do seeds differ as much as models do?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analyses.registry import Answer, Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One metric of one cell: which model, which seed, how good."""

    model: str
    seed: int
    value: float


@dataclass(frozen=True)
class Spread:
    """Spread between models and between a model's seeds.

    Attributes:
        ratio: standard deviation between models over the one between seeds, with its 95 % interval.
        models: standard deviation of the models' true means, 0 where seeds explain all of it.
        seeds: standard deviation between seeds of one model.
        p: of the F test that all models are equally good.
    """

    ratio: Estimate
    models: float
    seeds: float
    p: float


def discrimination(dataset: str, measured: Sequence[Measured], metric: str = "accuracy") -> Answer:
    """The discriminating power of a data set for the models that were run on it.

    Args:
        dataset: its name, for the sentence.
        measured: one metric of several models, two seeds or more each; models with one seed are left out.
        metric: its name, for the sentence.

    Returns:
        Column `discrimination_power` (between models over between seeds) and, where all models have the same seeds,
        `discrimination_power_paired`, from which what a seed does to all models alike (its split, above all) is taken
        out; table `models`; a note where the data set cannot tell the models apart.
    """
    values, lone = _by_model(measured)
    rows = [_row(name, np.array(list(found.values()))) for name, found in values.items()]
    notes = [f"one seed only, left out: {', '.join(lone)}"] if lone else []
    seeds = {frozenset(found) for found in values.values()}
    one_way = spread([np.array(list(found.values())) for found in values.values()])
    paired = None
    if len(seeds) == 1:
        shared = sorted(next(iter(seeds)))
        paired = paired_spread(np.array([[found[seed] for seed in shared] for found in values.values()]))
    columns = {
        "discrimination_power": one_way.ratio if one_way else Estimate(None),
        "discrimination_power_paired": paired.ratio if paired else Estimate(None),
    }
    notes += [_sentence(dataset, metric, rows, one_way, paired)]
    return Answer(columns, {"models": rows}, notes=notes)


def _row(model: str, values: Floats) -> dict[str, object]:
    return {
        "model": model,
        "seeds": values.size,
        "mean": float(values.mean()),
        "between_seeds": float(values.std(ddof=1)),
    }


def _by_model(measured: Sequence[Measured]) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Finite values by model and seed, and the models that have one seed only."""
    found: dict[str, dict[int, float]] = {}
    for one in measured:
        if math.isfinite(one.value):
            found.setdefault(one.model, {})[one.seed] = one.value
    many = {name: values for name, values in found.items() if len(values) > 1}
    return many, [name for name in found if name not in many]


def spread(values: Sequence[Floats]) -> Spread | None:
    """Spread between and within models, one-way, by analysis of variance.

    The interval of the ratio is exact for normally distributed values and equally many seeds (Searle, Casella and
    McCulloch 1992, section 3.6); with unequal numbers the mean of Searle's n0 stands for them.

    Args:
        values: each model's values, two seeds or more.

    Returns:
        None below two models, or where seeds do not differ at all.
    """
    if len(values) < 2:
        return None
    sizes = np.array([found.size for found in values], dtype=np.float64)
    means = np.array([found.mean() for found in values])
    grand = float((sizes * means).sum() / sizes.sum())
    between = float((sizes * (means - grand) ** 2).sum()) / (len(values) - 1)
    degrees = int(sizes.sum()) - len(values)
    within = float(sum(((found - found.mean()) ** 2).sum() for found in values)) / degrees
    typical = float((sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(values) - 1))
    return _spread(between, within, len(values) - 1, degrees, typical)


def paired_spread(values: Floats) -> Spread | None:
    """The same where every model has the same seeds [models, seeds], without what a seed does to all models alike.

    Returns:
        None below two models or seeds, or where nothing is left between seeds.
    """
    models, seeds = values.shape
    if models < 2 or seeds < 2:
        return None
    by_model, by_seed = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - by_model - by_seed + values.mean()
    between = seeds * float(((by_model - values.mean()) ** 2).sum()) / (models - 1)
    degrees = (models - 1) * (seeds - 1)
    return _spread(between, float((rest**2).sum()) / degrees, models - 1, degrees, seeds)


def _spread(between: float, within: float, upper: int, lower: int, seeds: float) -> Spread | None:
    """A spread from two mean squares, their degrees of freedom and the number of seeds a model."""
    from scipy.stats import f

    if within <= 1e-18:
        return None
    statistic = between / within
    low, high = (statistic / float(f.ppf(q, upper, lower)) for q in (0.975, 0.025))
    ratio = Estimate(*(math.sqrt(max(value - 1, 0.0) / seeds) for value in (statistic, low, high)))
    models = math.sqrt(max(between - within, 0.0) / seeds)
    return Spread(ratio, models, math.sqrt(within), float(f.sf(statistic, upper, lower)))


def _sentence(
    dataset: str, metric: str, rows: Sequence[dict[str, object]], one_way: Spread | None, paired: Spread | None
) -> str:
    if len(rows) < 2:
        return f"{dataset}: two models with two seeds each are needed to say whether it tells models apart"
    found = paired or one_way
    if found is None:
        return f"{dataset}: seeds do not differ in {metric}, so there is nothing to hold the models against"
    told = found.ratio.low is not None and found.ratio.low > 0
    spreads = f"{metric} spreads by {found.models:.4f} between models and by {found.seeds:.4f} between seeds"
    verdict = "tells these models apart" if told else "cannot tell these models apart"
    return f"{dataset} {verdict}: {spreads} (F test, p = {found.p:.2g})"
