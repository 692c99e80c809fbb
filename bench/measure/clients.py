"""Accuracy by client: of the test images that each client of a federation holds, and over the clients.

Every client with images counts alike, whatever their number: a small hospital is as much a hospital as a large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.measure.clusters import clusters, draws

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLIENTS_TESTED = "clients_tested"
CLIENT_COLUMNS = (
    "mean_client_accuracy",
    "worst_client_accuracy",
    "p10_client_accuracy",
    "client_accuracy_spread",
)
# Of the clients' own validation images, in a round's row and in a sweep's trial.
VAL_CLIENT_COLUMNS = tuple(f"val_{name}" for name in CLIENT_COLUMNS)
# Of the models that clients trained alone, each on all validation images.
VAL_LOCAL_MODEL_COLUMNS = tuple(name.replace("client", "local_model") for name in VAL_CLIENT_COLUMNS)


def over_clients(accuracies: ArrayLike, names: Sequence[str] = CLIENT_COLUMNS) -> dict[str, float]:
    """Mean, minimum, 10th percentile and standard deviation of accuracies [clients], under these names."""
    values = np.asarray(accuracies, dtype=np.float64)
    figures = (values.mean(), values.min(), np.quantile(values, 0.1), values.std())
    return {name: float(value) for name, value in zip(names, figures, strict=True)}


def accuracy_by(names: ArrayLike, right: ArrayLike) -> dict[str, tuple[int, float]]:
    """Images and accuracy of each name that holds any, by rising name.

    Args:
        names: whose each image is [N]; "" is nobody's.
        right: whether each image's most probable class is its label [N].
    """
    owners, hits = np.asarray(names).astype(str), np.asarray(right, dtype=bool)
    found = {str(name): owners == name for name in np.unique(owners) if name}
    return {name: (int(here.sum()), float(hits[here].mean())) for name, here in found.items()}


def client_accuracy(labels: Ints, probabilities: ArrayLike, holders: ArrayLike) -> dict[str, float]:
    """The columns over clients from predictions, and how many clients hold any of their images.

    Args:
        labels: [N] class numbers.
        probabilities: [N, k].
        holders: the client that holds each image [N].
    """
    right = np.asarray(probabilities).argmax(axis=1) == labels
    found = accuracy_by(holders, right)
    return {**over_clients([accuracy for _, accuracy in found.values()]), CLIENTS_TESTED: float(len(found))}


def mean_client_interval(
    labels: Ints, probabilities: ArrayLike, holders: ArrayLike, groups: ArrayLike, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % percentile interval of the mean over clients, from the draws of whole groups [N] that all columns share.

    A client none of whose groups is drawn is left out of that resample. The worst client has no interval here: the
    minimum of resampled accuracies lies below the accuracy of the client that is served worst.
    """
    codes, _ = clusters(groups)
    counts = draws(codes, resamples, seed)
    right = np.asarray(probabilities).argmax(axis=1) == labels
    totals, hits = [], []
    for name in np.unique(np.asarray(holders).astype(str)):
        here = np.asarray(holders) == name
        totals.append(counts @ np.bincount(codes[here], minlength=counts.shape[1]))
        hits.append(counts @ np.bincount(codes[here], weights=right[here], minlength=counts.shape[1]))
    shares = np.full((len(totals), len(counts)), np.nan)
    np.divide(hits, totals, out=shares, where=np.asarray(totals) > 0)
    low, high = np.percentile(np.nanmean(shares, axis=0), [2.5, 97.5])
    return {"mean_client_accuracy": (float(low), float(high))}
