"""Conformal sets: which classes must be named so that the true one is among them nine times out of ten?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.characteristics import CharacteristicsSettings, characteristics
from bench.analyses.support.conformal_sets import aps_scores, lac_scores, prediction_sets, thresholds
from bench.analyses.support.intervals import estimates, proportion, unit_notes
from bench.analyses.support.parts import Predicted, one_class_note, present, tested_part, validation_part

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Score = Literal["lac", "aps"]
SCORES: tuple[Score, ...] = ("lac", "aps")
METRICS = ("coverage", "size", "single", "worst_class_coverage")


class ConformalSettings(CharacteristicsSettings):
    """Settings of `conformal`.

    Attributes:
        miss: the share of true classes that may be missing from the sets.
        per_class: promise coverage within every class, not only over all images.
        randomized: let APS flip its coin at the edge of a set, which keeps coverage exact; without, sets are larger.
        smallest: groups of fewer test images are listed without metrics.
    """

    miss: float = Field(0.1, gt=0, lt=1)
    per_class: bool = True
    randomized: bool = True
    smallest: int = Field(30, ge=2)


def conformal(cell: Any, settings: ConformalSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Coverage and size of split conformal sets that were calibrated on validation.

    Args:
        cell: gives `predictions("test")`, `predictions("val")` and, for groups by age or sex, `table`.
        settings: how often the true class may be missed, and how.
        folder: nothing is written.

    Returns:
        Columns `conformal_SCORE_FIGURE`, SCORE lac or aps; tables `coverage` (by class, site, age, sex, ...),
        `sizes` and `thresholds`.
    """
    test = tested_part(cell)
    val, notes = validation_part(cell)
    empty = {f"conformal_{score}_{metric}": Estimate(None) for score in SCORES for metric in METRICS}
    if val is None:
        return Answer(empty, notes=notes)
    if one_class_note(val, "validation"):
        return Answer(empty, notes=[f"{one_class_note(val, 'validation')[0]}: no set can be calibrated"])
    known, more = characteristics(cell, test, settings)
    columns: dict[str, Estimate] = {}
    tables: dict[str, list[dict[str, Any]]] = {"coverage": [], "sizes": [], "thresholds": []}
    for score in SCORES:
        limits = thresholds(val.labels, _scores(val, score, settings, 0), settings.miss, settings.per_class)
        sets = prediction_sets(_scores(test, score, settings, 1), limits)
        columns |= _columns(test, sets, score, settings)
        tables["coverage"] += _coverage(test, sets, score, known, settings)
        tables["sizes"] += _sizes(sets, score)
        tables["thresholds"] += _limits(val, limits, score)
    notes = notes + _scarce(tables["thresholds"]) + more + one_class_note(test, "test") + unit_notes(test.groups)
    return Answer(columns, tables, notes=notes)


def _scores(part: Predicted, score: Score, settings: ConformalSettings, stream: int) -> Floats:
    if score == "lac":
        return lac_scores(part.probabilities)
    drawn = np.random.default_rng([settings.seed, stream]).uniform(size=len(part.labels))
    return aps_scores(part.probabilities, drawn if settings.randomized else np.ones(len(part.labels)))


def _covered(test: Predicted, sets: Bools) -> Bools:
    covered: Bools = sets[np.arange(len(test.labels)), test.labels]
    return covered


def _columns(test: Predicted, sets: Bools, score: Score, settings: ConformalSettings) -> dict[str, Estimate]:
    covered, sizes = _covered(test, sets), sets.sum(axis=1).astype(np.float64)

    def mean_size(weights: Floats) -> dict[str, Floats]:
        return {"size": weights @ sizes / weights.sum(axis=1)}

    classes = [proportion(covered[mine], test.groups[mine]) for mine in (test.labels == c for c in present(test))]
    found = {
        "coverage": proportion(covered, test.groups),
        "size": estimates(mean_size, test.groups, settings)["size"],
        "single": proportion(sizes == 1, test.groups),
        "worst_class_coverage": min(classes, key=lambda estimate: estimate.value or 0.0),
    }
    return {f"conformal_{score}_{name}": value for name, value in found.items()}


def _coverage(
    test: Predicted, sets: Bools, score: Score, known: dict[str, NDArray[np.str_]], settings: ConformalSettings
) -> list[dict[str, Any]]:
    """Rows of coverage: all images, whole groups, every class, every value of every characteristic."""
    covered = _covered(test, sets)
    classes = np.array([test.classes[number] for number in test.labels])
    rows = [_row(score, "all", "images", covered, test.groups, sets, 1)]
    rows += [_whole_groups(score, covered, test.groups)]
    for by, values in {"class": classes, **known}.items():
        for value in np.unique(values):
            mine = values == value
            smallest = 1 if by == "class" else settings.smallest
            rows.append(_row(score, by, str(value), covered[mine], test.groups[mine], sets[mine], smallest))
    return rows


def _row(
    score: Score, by: str, value: str, covered: Bools, groups: NDArray[np.str_], sets: Bools, smallest: int
) -> dict[str, Any]:
    shown = len(covered) >= smallest
    share = proportion(covered, groups) if shown else Estimate(None)
    size = float(sets.sum(axis=1).mean()) if shown else None
    return {"score": score, "by": by, "value": value, "images": len(covered), "coverage": share.value,
            "low": share.low, "high": share.high, "size": size}  # fmt: skip


def _whole_groups(score: Score, covered: Bools, groups: NDArray[np.str_]) -> dict[str, Any]:
    """The share of groups all of whose images are covered; an image without a group stands for itself."""
    alone = np.array([f"\x00{number}" for number in range(len(groups))])
    codes = np.unique(np.where(groups == "", alone, groups), return_inverse=True)[1]
    missed = np.bincount(codes, weights=~covered)
    share = proportion(missed == 0, np.full(missed.size, ""))
    return {"score": score, "by": "all", "value": "whole groups", "images": len(groups), "coverage": share.value,
            "low": share.low, "high": share.high, "size": None}  # fmt: skip


def _sizes(sets: Bools, score: Score) -> list[dict[str, Any]]:
    counts = np.bincount(sets.sum(axis=1), minlength=sets.shape[1] + 1)
    return [{"score": score, "size": size, "images": int(count)} for size, count in enumerate(counts)]


def _limits(val: Predicted, limits: Floats, score: Score) -> list[dict[str, Any]]:
    counts = np.bincount(val.labels, minlength=len(val.classes))
    return [
        {"score": score, "class": name, "validation_images": int(counts[index]),
         "threshold": float(limits[index]) if math.isfinite(limits[index]) else None}
        for index, name in enumerate(val.classes)
    ]  # fmt: skip


def _scarce(limits: list[dict[str, Any]]) -> list[str]:
    named = {row["class"]: row["validation_images"] for row in limits if row["threshold"] is None}
    return [f"{count} validation images of {name} are too few: it is in every set" for name, count in named.items()]
