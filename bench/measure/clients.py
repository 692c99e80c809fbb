"""Accuracy by client: of the test images that each client of a federation holds, and over the clients.

Every client with images counts alike, whatever their number: a small hospital is as much a hospital as a large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.measure.statistics.clusters import FEWEST_GROUPS, clusters, parts
from bench.measure.statistics.jackknife import bounds, error

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
    summary = (values.mean(), values.min(), np.quantile(values, 0.1), values.std())
    return {name: float(value) for name, value in zip(names, summary, strict=True)}


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


def client_metrics(
    labels: Ints,
    probabilities: ArrayLike,
    holders: ArrayLike,
    groups: ArrayLike,
    most_parts: int,
    seed: int,
    prefix: str = "",
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """The columns over clients and the intervals that they have.

    Args:
        labels: [N].
        probabilities: [N, k].
        holders: the client that each image belongs to, [N].
        groups: [N].
        most_parts: parts that the jackknife leaves out, at most.
        seed: of the parts.
        prefix: before each column's name: "own_" for what clients answer with models of their own.
    """
    found = client_accuracy(labels, probabilities, holders)
    bounds_of = mean_client_interval(labels, probabilities, holders, groups, most_parts, seed)
    named = {f"{prefix}{name}": value for name, value in found.items() if not prefix or name in CLIENT_COLUMNS}
    return named, {f"{prefix}{name}": value for name, value in bounds_of.items()}


def mean_client_interval(
    labels: Ints, probabilities: ArrayLike, holders: ArrayLike, groups: ArrayLike, most_parts: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % interval of the mean over clients, by the jackknife over groups [N] that all columns share.

    A client that loses its only group is left out of that mean. The worst client has no interval here: the minimum of
    resampled accuracies lies below the accuracy of the client that is served worst.

    Args:
        labels: class numbers [N].
        probabilities: [N, k].
        holders: the client whose image each is [N].
        groups: the patient or lesion of each [N].
        most_parts: groups are left out one at a time up to here; more are dealt into as many lots.
        seed: of the lots.
    """
    right = np.asarray(probabilities).argmax(axis=1) == labels
    names, owners = np.unique(np.asarray(holders).astype(str), return_inverse=True)
    codes = parts(clusters(groups)[0], most_parts, seed)
    counts = int(codes.max()) + 1, names.size
    cells = codes * names.size + owners
    held = names != ""
    tables = [np.bincount(cells, each, minlength=counts[0] * counts[1]).reshape(counts) for each in (None, right)]
    images, hits = (table[:, held] for table in tables)
    value = float(np.mean(hits.sum(axis=0) / images.sum(axis=0)))
    if counts[0] < FEWEST_GROUPS:
        return {"mean_client_accuracy": (float("nan"), float("nan"))}
    left = images.sum(axis=0) - images
    shares = np.divide(hits.sum(axis=0) - hits, left, out=np.full(left.shape, np.nan), where=left > 0)
    weights = np.bincount(codes) / codes.size
    spread = error(value, np.nanmean(shares, axis=1), weights)
    return {"mean_client_accuracy": bounds("mean_client_accuracy", value, spread, weights)}
