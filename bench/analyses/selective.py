"""Selective prediction: how much better are decisions when the unsure ones are left to somebody else?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.intervals import ResampledSettings, Statistics, estimates, proportion, unit_notes
from bench.analyses.support.parts import Predicted, one_class_note, tested_part, validation_part

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Confidence = Literal["highest", "margin", "entropy"]
Coverage = Annotated[float, Field(gt=0, le=1)]
_POINTS = 100


class SelectiveSettings(ResampledSettings):
    """Settings of `selective`.

    Attributes:
        confidence: by which images are kept: the highest probability, its margin to the next, or little entropy.
        coverages: the shares of images kept at which accuracy is read.
    """

    confidence: Confidence = "highest"
    coverages: tuple[Coverage, ...] = (0.8, 0.9, 0.95)


def selective(cell: Any, settings: SelectiveSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Risk against coverage on the test set when the most confident decisions are kept.

    Args:
        cell: gives `predictions("test")` and `predictions("val")`.
        settings: what confidence is and where accuracy is read.
        folder: nothing is written.

    Returns:
        Columns `selective_aurc`, `selective_augrc`, `selective_accuracy_PERCENT`; tables `curve` and `kept`, which also
        has thresholds chosen on validation.
    """
    test = tested_part(cell)
    wrong, sure = _wrong(test), confidence(test.probabilities, settings.confidence)
    found = estimates(areas(wrong, sure), test.groups, settings)
    columns = {f"selective_{name}": estimate for name, estimate in found.items()}
    kept = [_kept(test, sure >= threshold_keeping(sure, share), share, "test") for share in settings.coverages]
    for share, row in zip(settings.coverages, kept, strict=True):
        columns[f"selective_accuracy_{share * 100:g}"] = Estimate(row["accuracy"], row["low"], row["high"])
    val, notes = validation_part(cell)
    if val is not None:
        known = confidence(val.probabilities, settings.confidence)
        kept += [_kept(test, sure >= threshold_keeping(known, s), s, "validation") for s in settings.coverages]
    if not wrong.any():
        notes.append("no test image is misclassified: the areas are 0 and their intervals cannot be drawn")
    notes += one_class_note(test, "test") + unit_notes(test.groups)
    return Answer(columns, {"curve": curve(wrong, sure), "kept": kept}, notes=notes)


def confidence(probabilities: Floats, kind: Confidence) -> Floats:
    """How sure a decision is [N]: higher is surer."""
    if kind == "highest":
        sure: Floats = probabilities.max(axis=1)
    elif kind == "margin":
        ranked = np.sort(probabilities, axis=1)
        sure = ranked[:, -1] - ranked[:, -2]
    else:
        sure = (probabilities * np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))).sum(axis=1)
    return sure


def threshold_keeping(sure: Floats, share: float) -> float:
    """The confidence from which on a share of images or more is kept; equally sure images stay together."""
    place = math.ceil(round(share * sure.size, 9))
    return float(np.sort(sure)[sure.size - place])


def areas(wrong: Bools, sure: Floats) -> Statistics:
    """Areas under the risk-coverage curves of whole-number image weights.

    `aurc` (Geifman and El-Yaniv 2017): the mean over n = 1 ... N of the error rate of the n surest images. `augrc`
    (Traub et al. 2024): the area under (errors among the kept / N) against coverage, by trapezoids. Equally sure images
    come in every order, so each counts its tie's error rate.
    """
    order = np.argsort(-sure, kind="stable")
    ranked, missed = sure[order], wrong[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def statistics(weights: Floats) -> dict[str, Floats]:
        drawn = weights[:, order]
        counts = np.add.reduceat(drawn, starts, axis=1)
        errors = np.add.reduceat(drawn * missed, starts, axis=1)
        pairs = np.array([_areas(*rows) for rows in zip(counts, errors, strict=True)])
        return {"aurc": pairs[:, 0], "augrc": pairs[:, 1]}

    return statistics


def _areas(counts: Floats, errors: Floats) -> tuple[float, float]:
    """AURC and AUGRC of ties by falling confidence: how many images each has and how many of them are wrong."""
    many = np.rint(counts).astype(np.int64)
    rates = np.repeat(np.divide(errors, counts, out=np.zeros_like(errors), where=counts > 0), many)
    above = np.cumsum(rates)
    size = rates.size
    return float((above / np.arange(1, size + 1)).mean()), float((above - rates / 2).sum() / size**2)


def curve(wrong: Bools, sure: Floats) -> list[dict[str, Any]]:
    """Points of both curves, a hundred or so: coverage, threshold, risk of the kept, errors among the kept by all."""
    order = np.argsort(-sure, kind="stable")
    ranked, above = sure[order], np.cumsum(wrong[order])
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    shown = np.unique(np.linspace(0, ends.size - 1, min(_POINTS, ends.size)).round().astype(np.int64))
    return [
        {"coverage": (end + 1) / sure.size, "threshold": float(ranked[end]), "risk": float(above[end] / (end + 1)),
         "generalized_risk": float(above[end] / sure.size)}
        for end in ends[shown].tolist()
    ]  # fmt: skip


def _wrong(test: Predicted) -> Bools:
    wrong: Bools = test.probabilities.argmax(axis=1) != test.labels
    return wrong


def _kept(test: Predicted, kept: Bools, share: float, chosen_on: str) -> dict[str, Any]:
    """Accuracy of the kept images, the threshold taken as given, and how many were kept."""
    accuracy = proportion(~_wrong(test)[kept], test.groups[kept])
    coverage = proportion(kept, test.groups)
    return {"asked": share, "chosen_on": chosen_on, "coverage": coverage.value, "coverage_low": coverage.low,
            "coverage_high": coverage.high, "images": int(kept.sum()), "accuracy": accuracy.value,
            "low": accuracy.low, "high": accuracy.high}  # fmt: skip
