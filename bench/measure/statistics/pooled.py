"""Differences of two systems pooled over seeds and folds: paired by image, patients whole over all parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.measure.extra import extra_left_out
from bench.measure.quality import left_out, scores
from bench.measure.statistics.clusters import FEWEST_GROUPS
from bench.measure.statistics.clusters import parts as leave_out
from bench.measure.statistics.jackknife import Weights, error, freedom
from bench.measure.statistics.methods import TOO_NARROW
from bench.measure.statistics.paired import (
    Difference,
    accuracy_difference,
    auc,
    drawn_groups,
    group_sums,
    normal_difference,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Paired:
    """One test set as two systems predict it: ids, groups and labels [N], probabilities of A and B [N, k]."""

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    labels: Ints
    first: Floats
    second: Floats


def difference(name: str, parts: Sequence[Paired], classes: Sequence[str]) -> Difference:
    """A minus B of a quality column, averaged over the parts, with a 95 % interval and a two-sided p value.

    accuracy: p by exact sign flips of groups. roc_auc: DeLong, clustered. Any other column: Student's t. The errors are
    the jackknife's over groups; of parts that hold a single group they are over images and say that they are too small.

    Args:
        name: of the column.
        parts: paired predictions, one of each seed or fold.
        classes: k names.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("a difference needs at least one test set")
    if name == "accuracy":
        return _accuracy(parts)
    if name == "roc_auc":
        return _auc_difference(parts, classes)
    return differences(parts, classes, [name])[name]


def _codes(parts: Sequence[Paired]) -> tuple[Ints, Ints, str]:
    """A cluster number an image over all parts, where each part after the first begins, and the unit."""
    groups = np.concatenate([part.groups for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    names, unit = drawn_groups(groups, ids)
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return codes, np.cumsum([part.labels.size for part in parts])[:-1].astype(np.int64), unit


def _method(method: str, unit: str) -> str:
    return f"{method}, {TOO_NARROW}" if unit == "image" else method


def _right(part: Paired) -> tuple[Floats, Floats]:
    hits = [(shares.argmax(axis=1) == part.labels).astype(np.float64) for shares in (part.first, part.second)]
    return hits[0], hits[1]


def _accuracy(parts: Sequence[Paired]) -> Difference:
    codes, _, unit = _codes(parts)
    hits = [_right(part) for part in parts]
    first, second = (np.concatenate([pair[index] for pair in hits]) for index in (0, 1))
    found = accuracy_difference(first, second, codes.astype(str))
    return replace(found, method=_method(found.method, unit))


def group_steps(parts: Sequence[Paired]) -> Ints:
    """Images that A classifies rightly minus those that B does, by group over all parts: [groups]."""
    codes, _, _ = _codes(parts)
    hits = [_right(part) for part in parts]
    steps = np.concatenate([first - second for first, second in hits])
    return np.rint(group_sums(steps, codes)).astype(np.int64)


def _auc_difference(parts: Sequence[Paired], classes: Sequence[str]) -> Difference:
    codes, _, unit = _codes(parts)
    values, shares = [], []
    for part in parts:
        (first, first_shares), (second, second_shares) = auc(part.labels, part.first), auc(part.labels, part.second)
        values.append(first - second)
        shares.append((first_shares - second_shares) / len(parts))
    weights = _weights(parts, codes, classes).macro
    # Components sum to zero over the groups; the factor is what that costs where groups are few.
    correction = weights.size / max(weights.size - 1, 1)
    spread = float(np.sqrt((group_sums(np.concatenate(shares), codes) ** 2).sum() * correction))
    spread = spread if weights.size > 1 else math.nan
    return normal_difference(float(np.mean(values)), spread, _method("DeLong, clustered", unit), freedom(weights))


def _weights(parts: Sequence[Paired], codes: Ints, classes: Sequence[str]) -> Weights:
    return Weights.of(np.concatenate([part.labels for part in parts]), codes, tuple(classes))


def differences(parts: Sequence[Paired], classes: Sequence[str], names: Sequence[str] = ()) -> dict[str, Difference]:
    """A minus B of quality columns (all when none is named), averaged over the parts; the jackknife over groups.

    Args:
        parts: paired predictions, one of each seed or fold.
        classes: k names.
        names: the columns.
    """
    codes, sizes, unit = _codes(parts)
    lots = leave_out(codes)
    weights = _weights(parts, lots, classes)
    if weights.images.size < FEWEST_GROUPS:
        raise ValueError("a difference needs two test images or more")
    steps: dict[str, list[tuple[float, Floats]]] = {}
    for part, mine in zip(parts, np.split(lots, sizes), strict=True):
        for name, step in _steps(part, mine, weights.images.size, classes, names).items():
            steps.setdefault(name, []).append(step)
    found = {}
    for name, pieces in steps.items():
        value = float(np.mean([at for at, _ in pieces]))
        weight = weights.of_column(name)
        spread = error(value, np.mean([without for _, without in pieces], axis=0), weight)
        found[name] = normal_difference(value, spread, _method("jackknife, Student's t", unit), freedom(weight))
    return found


def _steps(
    part: Paired, lots: Ints, count: int, classes: Sequence[str], names: Sequence[str]
) -> dict[str, tuple[float, Floats]]:
    """A minus B by column on one test set, and without each of `count` lots; other parts' lots change nothing."""
    present, codes = np.unique(lots, return_inverse=True)
    sides = [
        left_out(scores(part.labels, shares, classes), codes.astype(np.int64), names)
        | extra_left_out(part.labels, shares, codes.astype(np.int64), names)
        for shares in (part.first, part.second)
    ]
    found = {}
    for name, (value, without) in sides[0].items():
        step, steps = value - sides[1][name][0], without - sides[1][name][1]
        every = np.full(count, step)
        every[present] = steps
        found[name] = (step, every)
    return found


def mean_difference(found: Sequence[Difference]) -> Difference:
    """The plain mean over independent datasets, each counting alike; degrees of freedom by Satterthwaite (1946)."""
    squares = [entry.error**2 for entry in found]
    total, shares = sum(squares), sum(one**2 / entry.freedom for one, entry in zip(squares, found, strict=True))
    free = total**2 / shares if shares > 0 else math.inf
    method = _method("mean over datasets", "image" if any(entry.narrow for entry in found) else "group")
    return normal_difference(
        float(np.mean([entry.value for entry in found])), math.sqrt(total) / len(found), method, free
    )


def clusters_of(parts: Sequence[Paired]) -> tuple[int, str]:
    """How many independent units the parts hold, and what they are: "group" or "image"."""
    codes, _, unit = _codes(parts)
    return int(codes.max()) + 1, "group" if unit == "group" else "image"
