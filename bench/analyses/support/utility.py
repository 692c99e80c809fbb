"""What decisions are worth: cost matrices, expected cost, net benefit, average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.analyses.support.intervals import Statistics
from bench.analyses.support.parts import one_hot
from bench.core.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def cost_matrix(costs: Mapping[str, float], classes: Sequence[str]) -> Floats:
    """Costs [true, predicted]: 0 on the diagonal, 1 beside it, and what is stated.

    Args:
        costs: "TRUE>PREDICTED" to a cost of 0 or more; "*" is any other class; a pair by name wins over a star, and
            of two stars the later one.
        classes: the k names.

    Raises:
        UserError: for an unknown class or a right decision with a cost.
    """
    matrix = 1 - np.eye(len(classes))
    for pair in sorted(costs, key=lambda key: -key.count("*")):
        true, _, predicted = (part.strip() for part in pair.partition(">"))
        rows, columns = _numbers(true, pair, classes), _numbers(predicted, pair, classes)
        if rows == columns and len(rows) == 1:
            raise UserError(f"cost {pair!r}: a right decision costs nothing; costs are of TRUE>PREDICTED, two classes")
        for row in rows:
            for column in columns:
                matrix[row, column] = costs[pair] if row != column else 0.0
    return matrix


def _numbers(name: str, pair: str, classes: Sequence[str]) -> list[int]:
    if name == "*":
        return list(range(len(classes)))
    if name not in classes:
        raise UserError(f"cost {pair!r}: expected TRUE>PREDICTED, each * or one of {', '.join(classes)}")
    return [list(classes).index(name)]


def cheapest(probabilities: Floats, costs: Floats) -> Ints:
    """The decision [N] of the least expected cost (Bayes' rule); a tie goes to the first class."""
    predicted: Ints = (probabilities @ costs).argmin(axis=1).astype(np.int64)
    return predicted


def expected_cost(labels: Ints, decisions: Mapping[str, Ints], costs: Floats) -> Statistics:
    """The mean cost of decisions, by their name, and with " normalized" behind over the best that ignores the image.

    The normalized cost is 1 for the best constant decision (Ferrer 2022), NaN where that one costs nothing.

    Args:
        labels: class numbers [N].
        decisions: class numbers [N] by the decision's name.
        costs: of predicting a class (columns) for a true one (rows) [k, k].
    """
    paid = {name: costs[labels, predicted] for name, predicted in decisions.items()}
    truth = one_hot(labels, len(costs))

    def statistics(weights: Floats) -> dict[str, Floats]:
        totals = weights.sum(axis=1)
        constant = (weights @ truth @ costs).min(axis=1) / totals
        means = {name: weights @ cost / totals for name, cost in paid.items()}
        return means | {f"{name} normalized": ratio(mean, constant) for name, mean in means.items()}

    return statistics


def net_benefit(positive: Bools, scores: Floats, thresholds: Sequence[float]) -> Statistics:
    """Net benefit (Vickers and Elkin 2006) of treating from a threshold on, by "model T"; "all T" treats everybody.

    Args:
        positive: who has the class [N].
        scores: its probability [N]; at the threshold itself one is treated.
        thresholds: T, between 0 and 1: the odds at which one false alarm weighs one hit.
    """
    columns: dict[str, Floats] = {}
    for threshold in thresholds:
        worth = np.where(positive, 1.0, -threshold / (1 - threshold))
        columns[f"model {threshold}"] = worth * (scores >= threshold)
        columns[f"all {threshold}"] = worth
    table = np.stack(list(columns.values()), axis=1)

    def statistics(weights: Floats) -> dict[str, Floats]:
        return dict(zip(columns, (weights @ table / weights.sum(axis=1, keepdims=True)).T, strict=True))

    return statistics


def average_precision(positive: Bools, scores: Floats) -> Statistics:
    """Average precision ("ap") of a class: the mean of precision over its images; ties count together."""
    order = np.argsort(-scores, kind="stable")
    ranked, mine = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def statistics(weights: Floats) -> dict[str, Floats]:
        drawn = weights[:, order]
        hits = np.add.reduceat(drawn * mine, starts, axis=1)
        above, everybody = np.cumsum(hits, axis=1), np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1)
        return {"ap": ratio((hits * ratio(above, everybody, 0.0)).sum(axis=1), above[:, -1])}

    return statistics


def ratio(part: Floats, whole: Floats, otherwise: float = float("nan")) -> Floats:
    """part / whole, and `otherwise` where the whole is 0."""
    values: Floats = np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0)
    return values
