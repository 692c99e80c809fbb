"""Calibration: do probabilities mean what they say, and what do calibrators fitted on validation mend?"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.calibrators import fit_isotonic, fit_temperature, temperature_estimate
from bench.analyses.support.intervals import ResampledSettings, Resamples, Statistics, proportion, resample, unit_notes
from bench.analyses.support.parts import Predicted, one_class_note, one_hot, present, tested_part, validation_part
from bench.measure.statistics.clusters import clusters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
# The same floor as the log_loss column's: predictions are stored as float32.
_LOG_FLOOR = float(np.finfo(np.float32).eps)
METRICS = ("ece", "debiased", "root_brier", "log_loss")
PLAIN = "none"


class CalibrationSettings(ResampledSettings):
    """Settings of `calibration`: how the intervals are drawn."""


def calibration(cell: Any, settings: CalibrationSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Calibration errors on the test set before and after calibrators that were fitted on validation.

    Args:
        cell: gives `predictions("test")` and `predictions("val")`.
        settings: of the bootstrap over the test set's groups; the calibrators are taken as fixed.
        folder: nothing is written.

    Returns:
        Columns `calibration_FIGURE` and, with `_temperature` or `_isotonic` behind, after calibration;
        `calibration_temperature`; tables `reliability` and `by_class`.
    """
    test = tested_part(cell)
    versions, columns, notes = _calibrated(cell, test)
    single = one_class_note(test, "test")
    if single:
        columns |= {_column(metric, name): Estimate(None) for name in versions for metric in METRICS}
        return Answer(columns, notes=[*notes, f"{single[0]}: calibration is not measured"])
    found = resample(_joined(test, versions), test.groups, settings)
    columns |= {_column(metric, name): _estimate(found, f"{name} {metric}") for name in versions for metric in METRICS}
    columns |= {
        f"{_column('log_loss', name)}_change": found.estimate(f"{name} change") for name in versions if name != PLAIN
    }
    tables = {
        "reliability": [row for name, shares in versions.items() for row in reliability(test, shares, name)],
        "by_class": [row for name, shares in versions.items() for row in _by_class(test, shares, name, settings)],
    }
    return Answer(columns, tables, notes=notes + _lost(test, versions) + unit_notes(test.groups))


def _column(metric: str, name: str) -> str:
    return f"calibration_{metric}" if name == PLAIN else f"calibration_{metric}_{name}"


def _calibrated(cell: Any, test: Predicted) -> tuple[dict[str, Floats], dict[str, Estimate], list[str]]:
    """The test set's probabilities by calibrator, the temperature's column, and notes."""
    versions = {PLAIN: test.probabilities}
    columns = {"calibration_temperature": Estimate(None)}
    val, notes = validation_part(cell)
    if val is not None and one_class_note(val, "validation"):
        notes, val = [f"{one_class_note(val, 'validation')[0]}: no calibrator is fitted"], None
    if val is None:
        return versions, columns, notes
    temperature = fit_temperature(val.labels, val.probabilities)
    if temperature is None:
        notes = [
            *notes,
            "no finite temperature is best on validation: every image is right, or a uniform guess does better",
        ]
    else:
        versions["temperature"] = temperature.apply(test.probabilities)
        estimate = temperature_estimate(temperature, val.labels, val.probabilities, val.groups)
        columns["calibration_temperature"] = estimate
    isotonic = fit_isotonic(val.labels, val.probabilities)
    if isotonic is None:
        notes = [*notes, "a class has no validation image: isotonic regression is not fitted"]
    else:
        versions["isotonic"] = isotonic.apply(test.probabilities)
    return versions, columns, notes


def _joined(test: Predicted, versions: dict[str, Floats]) -> Statistics:
    measures = {name: _measures(test, shares) for name, shares in versions.items()}

    def statistics(weights: Floats) -> dict[str, Floats]:
        found = {f"{name} {key}": value for name in measures for key, value in measures[name](weights).items()}
        changes = {f"{name} change": found[f"{name} log_loss"] - found[f"{PLAIN} log_loss"] for name in measures}
        return found | changes

    return statistics


def _measures(test: Predicted, probabilities: Floats) -> Statistics:
    """Every metric of the highest probability under image weights; squares of the debiased error and its plug-in."""
    labels = test.labels
    gaps = binned_errors(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, test.groups)
    halved = 2 if probabilities.shape[1] == 2 else 1
    squares = ((probabilities - one_hot(labels, probabilities.shape[1])) ** 2).sum(axis=1) / halved
    losses = -np.log(np.clip(probabilities[np.arange(labels.size), labels], _LOG_FLOOR, 1 - _LOG_FLOOR))

    def statistics(weights: Floats) -> dict[str, Floats]:
        totals = weights.sum(axis=1)
        return gaps(weights) | {
            "root_brier": np.sqrt(weights @ squares / totals),
            "log_loss": weights @ losses / totals,
        }

    return statistics


def binned_errors(confidences: Floats, hits: NDArray[np.bool_], groups: NDArray[np.str_]) -> Statistics:
    """Calibration errors of confidences [N] in their hits [N].

    Args:
        confidences: from 0 to 1.
        hits: whether what is confided in is true.
        groups: [N] names of what is independent.

    Returns:
        Under image weights that are equal within a group: `ece` in bins of equal width; `plugin`, the squared error in
        bins of equally many images; `debiased`, the same less the variance of each bin's share (Kumar, Liang and Ma
        2019), which is share (1 - share) / (n - 1) for independent images and their cluster-robust one for groups.
    """
    wide, many = one_hot(width_bins(confidences), BINS), one_hot(mass_bins(confidences), BINS)
    surplus, noise = confidences - hits, _bin_noise(many, hits, groups)

    def statistics(weights: Floats) -> dict[str, Floats]:
        totals = weights.sum(axis=1)
        counts, gaps = weights @ many, weights @ (many * surplus[:, None])
        plugin = (counts * (gaps / np.maximum(counts, 1)) ** 2).sum(axis=1) / totals
        return {
            "ece": np.abs(weights @ (wide * surplus[:, None])).sum(axis=1) / totals,
            "debiased": plugin - (counts * noise(weights)).sum(axis=1) / totals,
            "plugin": plugin,
        }

    return statistics


def _bin_noise(bins: Floats, hits: NDArray[np.bool_], groups: NDArray[np.str_]) -> Callable[[Floats], Floats]:
    """The variance of every bin's share of hits: image weights [B, N] -> [B, bins]; 0 for a bin of one cluster."""
    _, first, codes = np.unique(clusters(groups)[0], return_index=True, return_inverse=True)
    members = np.stack([np.bincount(codes, weights=column) for column in bins.T], axis=1)
    right = np.stack([np.bincount(codes, weights=column * hits) for column in bins.T], axis=1)

    def noise(weights: Floats) -> Floats:
        drawn = weights[:, first]
        counts, filled = np.maximum(drawn @ members, 1), drawn @ (members > 0)
        share = drawn @ right / counts
        squares = drawn @ right**2 - 2 * share * (drawn @ (right * members)) + share**2 * (drawn @ members**2)
        return np.where(filled > 1, squares / counts**2 * filled / np.maximum(filled - 1, 1), 0.0)

    return noise


def width_bins(confidences: Floats) -> Ints:
    """The bin [N] of each confidence among `BINS` of equal width, open on the left."""
    bins: Ints = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins


def mass_bins(confidences: Floats) -> Ints:
    """The bin [N] of each confidence among `BINS` that hold equally many images; equal confidences stay together."""
    edges = np.quantile(confidences, np.arange(1, BINS) / BINS)
    bins: Ints = np.searchsorted(edges, confidences, side="left").astype(np.int64)
    return bins


def _estimate(found: Resamples, name: str) -> Estimate:
    if not name.endswith("debiased"):
        return found.estimate(name)
    square = found.debiased(name, name.removesuffix("debiased") + "plugin")
    if square.high is None or square.high <= 0:
        # All of the interval lies below zero: there is no error to be seen, which does not make 0 a certainty.
        return Estimate(_root(square.value))
    return Estimate(_root(square.value), _root(square.low), _root(square.high))


def _root(square: float | None) -> float | None:
    """The root of a debiased square, which can fall below zero where nothing is left after the debiasing."""
    return None if square is None else math.sqrt(max(square, 0.0))


def reliability(test: Predicted, probabilities: Floats, calibrator: str) -> list[dict[str, Any]]:
    """Rows of a reliability diagram: the highest probability ("decision") and every class of the part by itself.

    Args:
        test: the part whose labels count.
        probabilities: of its images [N, k].
        calibrator: what made them, for the rows.
    """
    kinds = {"decision": (probabilities.max(axis=1), probabilities.argmax(axis=1) == test.labels)}
    kinds |= {test.classes[c]: (probabilities[:, c], test.labels == c) for c in present(test)}
    rows = []
    for of, (confidences, hits) in kinds.items():
        bins = width_bins(confidences)
        for number in np.unique(bins):
            mine = bins == number
            share = proportion(hits[mine], test.groups[mine])
            rows.append({
                "calibrator": calibrator, "of": of, "from": number / BINS, "to": (number + 1) / BINS,
                "images": int(mine.sum()), "confidence": float(confidences[mine].mean()),
                "share": share.value, "low": share.low, "high": share.high,
            })  # fmt: skip
    return [
        {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()} for row in rows
    ]


def _by_class(test: Predicted, shares: Floats, calibrator: str, settings: CalibrationSettings) -> list[dict[str, Any]]:
    """ECE and debiased error of every class' probability, one against the rest."""
    rows = []
    for index in present(test):
        found = resample(binned_errors(shares[:, index], test.labels == index, test.groups), test.groups, settings)
        ece, debiased = _estimate(found, "ece"), _estimate(found, "debiased")
        rows.append({
            "calibrator": calibrator, "class": test.classes[index], "images": int((test.labels == index).sum()),
            "ece": ece.value, "ece_low": ece.low, "ece_high": ece.high,
            "debiased": debiased.value, "debiased_low": debiased.low, "debiased_high": debiased.high,
        })  # fmt: skip
    return rows


def _lost(test: Predicted, versions: dict[str, Floats]) -> list[str]:
    if "isotonic" not in versions:
        return []
    lost = int((versions["isotonic"][np.arange(test.labels.size), test.labels] <= 0).sum())
    return [f"isotonic regression gives {lost} test images' true class a probability of 0"] if lost else []
