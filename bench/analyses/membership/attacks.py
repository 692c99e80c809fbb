"""Attacks that tell a training image by how well the model knows it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Probabilities are stored as float32; the logit of an exact 0 or 1 lies no further out than this.
_EDGE = float(np.finfo(np.float32).eps)


def confidence(labels: NDArray[np.int64], probabilities: Floats) -> Floats:
    """The logit of the right class's probability [N], which is nearly normal over models (Carlini et al. 2022)."""
    right = np.clip(probabilities[np.arange(len(labels)), labels], _EDGE, 1 - _EDGE)
    logits: Floats = np.log(right) - np.log1p(-right)
    return logits


def lira(target: Floats, shadows: Floats, inside: Bools, fewest: int = 1) -> Floats:
    """Carlini et al.'s (2022) offline likelihood-ratio attack with one variance for all images.

    Args:
        target: the attacked model's confidence in each image [N].
        shadows: the shadow models' [S, N].
        inside: whether an image was in a shadow's training part [S, N].
        fewest: shadows that must not have trained on an image.

    Returns:
        How far the target's confidence lies above that of models that did not train on the image, in their standard
        deviations [N]; NaN for an image with too few such models.
    """
    out = np.where(inside, np.nan, shadows)
    known = (~inside).sum(axis=0)
    usable = known >= fewest
    mean = np.full(target.shape, np.nan)
    mean[usable] = np.nanmean(out[:, usable], axis=0)
    several = usable & (known > 1)
    squares = np.nansum((out[:, several] - mean[several]) ** 2, axis=0).sum()
    freedom = (known[several] - 1).sum()
    # One shadow an image tells no spread; any constant gives the same order of images.
    spread = float(np.sqrt(squares / freedom)) if freedom and squares > 0 else 1.0
    scores: Floats = (target - mean) / spread
    return scores


def rate_at(scores: Floats, members: Bools, false_positives: float) -> tuple[float, Bools]:
    """The lowest threshold whose share of false positives does not exceed a given one, and the members found [members].

    Args:
        scores: of membership [N].
        members: whether each image was trained on [N].
        false_positives: the share of others that may be called members, 0 to 1.

    Returns:
        The threshold, and whether each member's score lies above it.
    """
    others = np.sort(scores[~members])[::-1]
    allowed = int(np.floor(false_positives * others.size + 1e-9))
    threshold = float(others[allowed]) if allowed < others.size else -np.inf
    return threshold, scores[members] > threshold
