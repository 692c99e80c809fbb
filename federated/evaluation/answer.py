"""What a site tells of a model's answers on its images: counts, metrics with their errors, a reliability diagram."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.schema import validated
from bench.measure.quality import left_out, quality, scores
from bench.measure.statistics.clusters import FEWEST_GROUPS, clusters, parts
from bench.measure.statistics.jackknife import Weights, bounds, error
from bench.measure.statistics.methods import METHODS
from bench.measure.statistics.paired import clustered_error, group_sums
from bench.measure.statistics.student import student_quantile

METRICS = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier", "ece")
OVERCONFIDENCE = "overconfidence"
BINS = 10
FEWEST_IN_BIN = 5
"""A bin of the reliability diagram with fewer images is not told."""

Floats = NDArray[np.float64]
Row = dict[str, float | None]


def answer_of(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], groups: NDArray[np.str_], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Everything that leaves a site, as plain JSON values.

    Args:
        labels: class numbers [N]; probabilities: [N, k] of k classes; groups: [N], who is whose patient.

    Returns:
        `images`, `groups`, `method` of the intervals, `confusion` (label by decision), `metrics`: value, 95 % interval
        and standard error by name, recalls by class and `overconfidence` (mean of the highest probability less the
        accuracy) among them, `reliability`: images, mean confidence and accuracy by bin of the highest probability.
    """
    given = scores(labels, probabilities, classes)
    codes, unit = clusters(groups)
    confusion = np.bincount(given.labels * len(classes) + given.decisions, minlength=len(classes) ** 2)
    return {
        "images": len(labels),
        "groups": int(codes.max()) + 1,
        "method": METHODS[unit],
        "confusion": confusion.reshape(len(classes), -1).tolist(),
        "metrics": _metrics(labels, probabilities, groups, classes) | {OVERCONFIDENCE: _overconfidence(given, codes)},
        "reliability": _reliability(given),
    }


class _Metric(TypedDict):
    value: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    error: FiniteFloat | None


_Bin = TypedDict(
    "_Bin", {"from": FiniteFloat, "to": FiniteFloat, "images": int, "confidence": FiniteFloat, "accuracy": FiniteFloat}
)


class _Answer(TypedDict):
    images: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)]
    method: str
    confusion: list[list[int]]
    metrics: dict[str, _Metric]
    reliability: list[_Bin]


def read_answer(text: str, site: str) -> dict[str, Any]:
    """What a site told, checked.

    Args:
        text: `answer_of` as JSON.
        site: its name, for the sentence.

    Raises:
        UserError: it is something else.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"the answer of {site} is no JSON ({error}); use one version at every site") from error
    return dict(validated(Path(f"the answer of {site}"), value, _Answer, "use one version at every site"))


def _metrics(labels: Any, probabilities: Any, groups: Any, classes: tuple[str, ...]) -> dict[str, Row]:
    wanted = (*METRICS, *(f"recall_{name}" for name in classes))
    given = scores(labels, probabilities, classes)
    codes = parts(clusters(groups)[0])
    if len(labels) < FEWEST_GROUPS:
        found = quality(labels, probabilities, classes)
        return {name: _row(found[name], math.nan, (math.nan, math.nan)) for name in wanted}
    weights, rows = Weights.of(given.labels, codes, given.classes), {}
    for name, (value, without) in left_out(given, codes).items():
        if name in wanted:
            mine = weights.of_column(name)
            spread = error(value, without, mine)
            rows[name] = _row(value, spread, bounds(name, value, spread, mine))
    return {name: rows[name] for name in wanted}


def _overconfidence(given: Any, codes: NDArray[np.int64]) -> Row:
    steps = given.probabilities.max(axis=1) - (given.decisions == given.labels)
    members = np.bincount(codes).astype(np.float64)
    spread = clustered_error(group_sums(steps, codes), members)
    value, reach = float(steps.mean()), student_quantile(0.975, max(1, len(members) - 1)) * spread
    return _row(value, spread, (value - reach, value + reach))


def _reliability(given: Any) -> list[dict[str, float]]:
    sure, right = given.probabilities.max(axis=1), given.decisions == given.labels
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    return [
        {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "images": int(here.sum()),
            "confidence": float(sure[here].mean()),
            "accuracy": float(right[here].mean()),
        }
        for number in range(BINS)
        if (here := bins == number).sum() >= FEWEST_IN_BIN
    ]


def _row(value: float, spread: float, interval: tuple[float, float]) -> Row:
    low, high = interval
    values = {"value": value, "low": low, "high": high, "error": spread}
    return {name: float(each) if math.isfinite(each) else None for name, each in values.items()}
