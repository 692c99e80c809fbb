"""The metrics of a round's row, from what the clients told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.measure.clients import VAL_CLIENT_COLUMNS, over_clients
from bench.measure.throughput import IMAGES, SECONDS
from federated.transport.packing import Vector

Row = dict[str, Any]
_PIECE = 1 << 16


# What may be written down where the choice of a round's clients is secret. Everything else counts those who were asked,
# is a mean over them, or names them.
_OF_ALL_CLIENTS = (
    *("round", "learning_rate", "update_norm", "seconds"),
    *("val_loss", "val_accuracy", *VAL_CLIENT_COLUMNS),
)


def without_the_draw(row: Row) -> Row:
    """A round's row with None for whatever tells who, or how many, took part in it."""
    return {name: value if name in _OF_ALL_CLIENTS else None for name, value in row.items()}


def distance(after: Vector, before: Vector) -> float:
    """The Euclidean distance, piece by piece: pieces that stay in the cache take half the time of whole vectors."""
    total = 0.0
    for start in range(0, len(after), _PIECE):
        piece = after[start : start + _PIECE] - before[start : start + _PIECE]
        total += float(np.dot(piece, piece))
    return math.sqrt(total)


def training_columns(metrics: list[dict[str, float]]) -> Row:
    """Means of the clients' training metrics, weighted by their images; None where nobody answered.

    Beside them the images that the clients' steps were taken on and the seconds of those steps, added up.
    """
    total = sum(m["num-examples"] for m in metrics)
    done = {IMAGES: int(sum(m["images"] for m in metrics)), SECONDS: float(sum(m["seconds-training"] for m in metrics))}
    if total == 0:
        return {"train_loss": None, "train_accuracy": None, "drift": None, **done}
    means = {name: sum(m[name] * m["num-examples"] for m in metrics) / total for name in ("loss", "accuracy", "drift")}
    cut = {"cut": sum(m["cut"] for m in metrics)} if "cut" in metrics[0] else {}
    return {"train_loss": means["loss"], "train_accuracy": means["accuracy"], "drift": means["drift"], **cut, **done}


def quality_columns(metrics: list[dict[str, float]]) -> Row:
    """Of the pooled validation images, and over the clients' own validation images (clients with any count alike)."""
    held = [m for m in metrics if m["num-examples"] > 0]
    total = sum(m["num-examples"] for m in held)
    accuracies = np.array([m["accuracy"] for m in held])
    if total == 0:
        return dict.fromkeys(("val_loss", "val_accuracy", *VAL_CLIENT_COLUMNS))
    # Hits are whole numbers: summing them keeps the accuracy of one client's data equal to the centralized fit's.
    hits = sum(round(m["accuracy"] * m["num-examples"]) for m in held)
    return {
        "val_loss": sum(m["loss"] * m["num-examples"] for m in held) / total,
        "val_accuracy": hits / total,
        **over_clients(accuracies, VAL_CLIENT_COLUMNS),
    }
