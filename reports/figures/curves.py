"""Small forms of a cell's predictions for drawing: confusion counts, ROC and PR curves, reliability bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.measure.clients import accuracy_by
from bench.measure.quality import ECE_BINS, Scores, confidence_bins
from bench.store.predictions import Predictions

Floats = NDArray[np.float64]
POINTS = 48


@dataclass(frozen=True)
class Curve:
    """A polyline: x and y [points] in 0..1."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class Bin:
    """A reliability bin: images in it, their mean confidence and the share that is right."""

    images: int
    confidence: float
    accuracy: float


def confusion(found: Predictions) -> NDArray[np.int64]:
    """Counts [k true, k predicted]."""
    size = len(found.classes)
    counts = np.bincount(found.labels * size + found.decisions, minlength=size * size)
    return counts.reshape(size, size).astype(np.int64)


def roc_and_pr(found: Predictions) -> list[tuple[Curve, Curve] | None]:
    """A ROC and a precision-recall curve a class, one against the rest; None for a class without images."""
    return [_one_class(found.labels == index, found.probabilities[:, index]) for index in range(len(found.classes))]


def _one_class(positive: NDArray[np.bool_], score: Floats) -> tuple[Curve, Curve] | None:
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return None
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order])), score.size - 1]
    true, false = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    recall, fallout, precision = true / hits, false / misses, true / (true + false)
    roc = Curve(np.r_[0.0, fallout], np.r_[0.0, recall])
    return _thinned(roc, _corners(roc)), _thinned(Curve(recall, precision), _knees(recall))


def _corners(curve: Curve) -> NDArray[np.bool_]:
    """Points at which the line turns: the others lie on it."""
    turn = np.ones(curve.x.size, dtype=bool)
    first, second = np.diff(curve.x), np.diff(curve.y)
    turn[1:-1] = first[:-1] * second[1:] != first[1:] * second[:-1]
    return turn


def _knees(recall: Floats) -> NDArray[np.bool_]:
    """The last point before recall rises, and the ends."""
    knee = np.ones(recall.size, dtype=bool)
    knee[1:-1] = np.diff(recall)[1:] > 0
    return knee


def _thinned(curve: Curve, kept: NDArray[np.bool_]) -> Curve:
    """At most `POINTS` of the kept points, evenly along the line, both ends included."""
    places = np.flatnonzero(kept)
    if places.size > POINTS:
        x, y = curve.x[places], curve.y[places]
        travelled = np.r_[0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
        wanted = np.linspace(0, travelled[-1], POINTS)
        places = places[np.unique(np.clip(np.searchsorted(travelled, wanted), 0, places.size - 1))]
    return Curve(curve.x[places], curve.y[places])


def reliability(found: Predictions) -> list[Bin]:
    """The calibration error's bins, empty ones included."""
    bins = confidence_bins(Scores(found.labels, found.probabilities, found.classes, found.decisions))
    top, right = found.probabilities.max(axis=1), found.right
    counts = np.bincount(bins, minlength=ECE_BINS)
    sums = np.bincount(bins, weights=top, minlength=ECE_BINS), np.bincount(bins, weights=right, minlength=ECE_BINS)
    return [
        Bin(int(count), float(confidence / max(count, 1)), float(hits / max(count, 1)))
        for count, confidence, hits in zip(counts, *sums, strict=True)
    ]


def by_site(found: Predictions) -> dict[str, tuple[int, float]]:
    """Images and accuracy of each named site."""
    return accuracy_by(found.sites, found.right)
