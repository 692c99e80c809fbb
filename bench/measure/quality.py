"""Quality of stored predictions: every metric of the result table, its interval, and why a metric is missing.

Fractions are 0..1. Decisions are the arg-max class; a tie goes to the first class, as numpy's `argmax` does. "Macro"
is the plain mean over the classes that the test set holds. NaN stands for "undefined"; `undefined` says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import UserError
from bench.measure.statistics.clusters import FEWEST_GROUPS, MOST_PARTS, clusters, parts
from bench.measure.statistics.jackknife import Weights, bounds, error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ECE_BINS = 15
_CHUNK_ELEMENTS = 2_000_000
# Predictions are stored as float32, whose softmax can reach an exact 0: the same floor as scikit-learn's for float32.
_LOG_FLOOR = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Scores:
    """Predictions checked once and brought into the shapes that every metric needs.

    labels [N] int64, probabilities [N, k] float64, classes k names, decisions [N] int64.
    """

    labels: Ints
    probabilities: Floats
    classes: tuple[str, ...]
    decisions: Ints


def scores(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> Scores:
    """Check predictions at the door.

    Raises:
        UserError: shapes that do not fit, labels outside the classes, values that are no probabilities.
    """
    truth = np.asarray(labels, dtype=np.int64)
    shares = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or shares.shape != (truth.size, len(classes)) or truth.size == 0:
        raise UserError(f"predictions need labels [N] and probabilities [N, {len(classes)}], N > 0; "
                        f"got {truth.shape} and {shares.shape}")  # fmt: skip
    if truth.min() < 0 or truth.max() >= len(classes):
        raise UserError(f"labels must lie in 0..{len(classes) - 1}, got {truth.min()}..{truth.max()}")
    if not np.all(np.isfinite(shares)) or np.any(np.abs(shares.sum(axis=1) - 1) > 1e-3) or shares.min() < 0:
        raise UserError("probabilities must be finite, not negative and sum to 1 in every row")
    return Scores(truth, shares, tuple(classes), shares.argmax(axis=1))


def quality(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """Every quality column of one test set.

    Args:
        labels: [N] class numbers.
        probabilities: [N, k], rows sum to 1.
        classes: the k names, in the order of the columns.

    Returns:
        accuracy, balanced_accuracy, precision, recall, f1, sensitivity, specificity, roc_auc, roc_auc_hard, pr_auc,
        log_loss, brier, ece, mcc and one recall_CLASS a class.
    """
    given = scores(labels, probabilities, classes)
    once = _summed(_Sums.of(given, None), given.classes)
    once |= _ranked(given, _Sorted.of(given), np.ones((1, given.labels.size)))
    return {name: float(values[0]) for name, values in once.items()}


def undefined(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, str]:
    """The reason behind each column that is NaN or rests on a convention, by column name.

    Args:
        labels: class numbers [N].
        probabilities: [N, k].
        classes: k names.
    """
    given = scores(labels, probabilities, classes)
    support = np.bincount(given.labels, minlength=len(classes))
    predicted = np.bincount(given.decisions, minlength=len(classes))
    absent = [name for name, count in zip(classes, support, strict=True) if count == 0]
    never = [name for name, count, hits in zip(classes, support, predicted, strict=True) if count and not hits]
    reasons = {f"recall_{name}": f"no test image of class {name}" for name in absent}
    if (support > 0).sum() < 2:
        single = "the test set holds one class only"
        reasons |= dict.fromkeys(("roc_auc", "roc_auc_hard", "specificity", "mcc"), single)
    if never:
        reasons["precision"] = f"never predicted, counted as 0: {', '.join(never)}"
    return reasons


def rarest_class(labels: ArrayLike, classes: Sequence[str]) -> str:
    """The class with the fewest images among those that are there at all."""
    support = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(classes))
    present = [index for index, count in enumerate(support) if count]
    return classes[min(present, key=lambda index: int(support[index]))]


def intervals(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike,
    classes: Sequence[str],
    most_parts: int = MOST_PARTS,
    seed: int = 0,
    names: Sequence[str] = (),
) -> dict[str, tuple[float, float]]:
    """95 % intervals of every quality column: a jackknife over whole groups [N], Student's t.

    Args:
        labels: class numbers [N]; probabilities: [N, k].
        groups: the patient or lesion of each image [N], "" where it is not known.
        classes: k names.
        most_parts: groups are left out one at a time up to here; more are dealt into as many lots.
        seed: of the lots.
        names: the columns that are wanted; all of them when empty.

    Returns:
        (low, high) by column; (NaN, NaN) where fewer than two groups bear on it or nothing varies.
    """
    given = scores(labels, probabilities, classes)
    codes = parts(clusters(groups)[0], most_parts, seed)
    if given.labels.size < FEWEST_GROUPS:
        return dict.fromkeys(quality(labels, probabilities, classes), (math.nan, math.nan))
    weights = Weights.of(given.labels, codes, given.classes)
    found = {}
    for name, (value, without) in left_out(given, codes, names).items():
        mine = weights.of_column(name)
        found[name] = bounds(name, value, error(value, without, mine), mine)
    return found


def left_out(given: Scores, codes: Ints, names: Sequence[str] = ()) -> dict[str, tuple[float, Floats]]:
    """Every quality column of all images, and without each part [P]: two parts or more, numbered [N] without gaps.

    Args:
        given: labels and predictions of N images.
        codes: the part of each image [N].
        names: the columns that are wanted; all of them when empty. Those that rank images are the slow ones.
    """
    found = _summed(_Sums.of(given, codes), given.classes)
    if not names or set(names) & set(_RANKED):
        found |= _ranked_without(given, codes)
    return {name: (float(values[0]), values[1:]) for name, values in found.items() if not names or name in names}


@dataclass(frozen=True)
class _Sorted:
    """Per class: the images by falling probability [N] and where each run of equal probabilities starts [ties]."""

    orders: tuple[Ints, ...]
    starts: tuple[Ints, ...]

    @classmethod
    def of(cls, given: Scores) -> _Sorted:
        orders = tuple(np.argsort(-column, kind="stable") for column in given.probabilities.T)
        columns = [column[order] for column, order in zip(given.probabilities.T, orders, strict=True)]
        starts = tuple(np.flatnonzero(np.r_[True, column[1:] != column[:-1]]) for column in columns)
        return cls(orders, starts)


_RANKED = ("roc_auc", "pr_auc")


@dataclass(frozen=True)
class _Sums:
    """What adds up over images: of all of them first, then without each part; [1 + P] leads every shape.

    confusion [., k true, k predicted] counts; losses by column; surplus of confidence over hits in each bin [., bins].
    """

    confusion: Floats
    losses: dict[str, Floats]
    surplus: Floats

    @classmethod
    def of(cls, given: Scores, codes: Ints | None) -> _Sums:
        """Sum up; without codes, of all images alone."""
        size, one = len(given.classes), np.zeros_like(given.labels)
        surplus = given.probabilities.max(axis=1) - (given.decisions == given.labels)
        confusion = _without(given.labels * size + given.decisions, size * size, None, codes)
        return cls(
            confusion.reshape(-1, size, size),
            {name: _without(one, 1, values, codes)[:, 0] for name, values in _per_image(given).items()},
            _without(confidence_bins(given), ECE_BINS, surplus, codes),
        )


def _without(cells: Ints, size: int, values: Floats | None, codes: Ints | None) -> Floats:
    """Sums of values [N] (of ones when None) by cell [N]: of all images, then without each part. [1 + P, size]."""
    if codes is None:
        return np.bincount(cells, values, minlength=size)[None].astype(np.float64)
    count = int(codes.max()) + 1
    each = np.bincount(codes * size + cells, values, minlength=count * size).reshape(count, size)
    total = np.bincount(cells, values, minlength=size)
    return np.concatenate([total[None], total - each]).astype(np.float64)


def _summed(sums: _Sums, classes: tuple[str, ...]) -> dict[str, Floats]:
    """Every column that sums decide: each value is [1 + P]."""
    images = sums.confusion.sum(axis=(1, 2))
    columns = _decided(sums.confusion, classes)
    columns |= {name: values / images for name, values in sums.losses.items()}
    columns["ece"] = np.abs(sums.surplus).sum(axis=1) / images
    return columns


def _ranked_without(given: Scores, codes: Ints) -> dict[str, Floats]:
    """roc_auc and pr_auc of all images, and without each part: [1 + P]."""
    ordered = _Sorted.of(given)
    rows = max(1, _CHUNK_ELEMENTS // given.labels.size)
    left = np.arange(-1, int(codes.max()) + 1)
    pieces = [
        _ranked(given, ordered, (codes[None] != left[at : at + rows, None]).astype(np.float64))
        for at in range(0, left.size, rows)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in _RANKED}


def _onehot(numbers: Ints, size: int) -> Floats:
    table: Floats = np.eye(size, dtype=np.float64)[numbers]
    return table


def _ratio(part: Floats, whole: Floats, otherwise: float = float("nan")) -> Floats:
    values: Floats = np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0)
    return values


def _macro(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    kept = counted & np.isfinite(values)
    return _ratio(np.where(kept, values, 0.0).sum(axis=1), kept.sum(axis=1).astype(np.float64))


def _decided(confusion: Floats, classes: tuple[str, ...]) -> dict[str, Floats]:
    """Metrics of the arg-max class from confusion counts [B, k true, k predicted]."""
    hits = np.einsum("bii->bi", confusion)
    support, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    totals = support.sum(axis=1)
    present = support > 0
    recalls = _ratio(hits, support)
    others = totals[:, None] - support
    recall = _macro(recalls, present)
    specificity = _macro(_ratio(others - (predicted - hits), others), present)
    columns = {
        "accuracy": hits.sum(axis=1) / totals,
        "balanced_accuracy": recall,
        "precision": _macro(_ratio(hits, predicted, 0.0), present),
        "recall": recall,
        "f1": _macro(_ratio(2 * hits, support + predicted, 0.0), present),
        "sensitivity": recall,
        "specificity": specificity,
        "roc_auc_hard": (recall + specificity) / 2,
        "mcc": _matthews(hits.sum(axis=1), support, predicted, totals),
    }
    return columns | {f"recall_{name}": recalls[:, index] for index, name in enumerate(classes)}


def _matthews(correct: Floats, support: Floats, predicted: Floats, totals: Floats) -> Floats:
    """Gorodkin's R_K (2004), which is Matthews' coefficient for two classes; 0 when one class takes all decisions."""
    covariance = correct * totals - (support * predicted).sum(axis=1)
    spread_predicted = totals**2 - (predicted**2).sum(axis=1)
    spread_true = totals**2 - (support**2).sum(axis=1)
    value = _ratio(covariance, np.sqrt(spread_predicted * spread_true), 0.0)
    return np.where(spread_true > 0, value, np.nan)


def _ranked(given: Scores, ordered: _Sorted, weights: Floats) -> dict[str, Floats]:
    """roc_auc (ties count half) and pr_auc (average precision), one class against the rest, macro."""
    roc, precision = [], []
    for index, (order, starts) in enumerate(zip(ordered.orders, ordered.starts, strict=True)):
        mine = given.labels[order] == index
        drawn = weights[:, order]
        positive = np.add.reduceat(drawn * mine, starts, axis=1)
        negative = np.add.reduceat(drawn * ~mine, starts, axis=1)
        above_positive, above_negative = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        positives, negatives = above_positive[:, -1], above_negative[:, -1]
        below = negatives[:, None] - above_negative + negative / 2
        roc.append(_ratio((positive * below).sum(axis=1), positives * negatives))
        share = _ratio(above_positive, above_positive + above_negative, 0.0)
        precision.append(_ratio((share * positive).sum(axis=1), positives))
    everywhere = np.ones((weights.shape[0], len(roc)), dtype=bool)
    return {
        "roc_auc": _macro(np.stack(roc, axis=1), everywhere),
        "pr_auc": _macro(np.stack(precision, axis=1), everywhere),
    }


def _per_image(given: Scores) -> dict[str, Floats]:
    """log_loss and brier of each image [N]; brier is halved for two classes, as the binary score is."""
    chosen = given.probabilities[np.arange(given.labels.size), given.labels]
    errors = ((given.probabilities - _onehot(given.labels, len(given.classes))) ** 2).sum(axis=1)
    halved = 2 if len(given.classes) == 2 else 1
    return {"log_loss": -np.log(np.clip(chosen, _LOG_FLOOR, 1 - _LOG_FLOOR)), "brier": errors / halved}


def confidence_bins(given: Scores) -> Ints:
    """The bin [N] of each image's highest probability: `ECE_BINS` bins of equal width, open on the left."""
    top = given.probabilities.max(axis=1)
    bins: Ints = np.clip(np.ceil(top * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    return bins
