"""What a result says of predictions and of the images behind them, whoever made the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.cellspec import CellSpec
from bench.core.identity import derive_seed, digest
from bench.data.audit.store import audit_verdict
from bench.data.splits import Split
from bench.data.table import Table
from bench.measure import quality
from bench.measure.clients import client_metrics
from bench.measure.extra import extra_intervals, extra_quality
from bench.measure.statistics.clusters import MOST_PARTS, clusters
from bench.measure.statistics.methods import METHODS


def measured(
    spec: CellSpec,
    table: Table,
    test: NDArray[np.int64],
    predicted: NDArray[np.float32],
    holders: NDArray[np.str_] | None = None,
    own: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """The quality of predictions on a test set and its intervals, as a result holds them.

    Args:
        spec: the cell; its bootstrap seed and number of left-out parts are used.
        table: the dataset.
        test: rows of the table, [N].
        predicted: class probabilities, float32 [N, k].
        holders: the client that each image belongs to, [N]; None where there are no clients.
        own: as `predicted`, by the own model of each image's client; None where clients have none.
    """
    labels, groups, classes = table.labels[test], table.groups[test], table.classes
    seed = derive_seed("bootstrap", spec.dataset, spec.split, spec.seed)
    most_parts = min(spec.protocol.bootstrap_resamples, MOST_PARTS)
    intervals = quality.intervals(labels, predicted, groups, classes, most_parts, seed)
    intervals |= extra_intervals(labels, predicted, groups, most_parts, seed)
    found = quality.quality(labels, predicted, classes) | extra_quality(labels, predicted)
    if holders is not None:
        for prefix, given in (("", predicted), ("own_", own)):
            if given is not None:
                columns, bounds_of = client_metrics(labels, given, holders, groups, most_parts, seed, prefix)
                found, intervals = found | columns, intervals | bounds_of
    metrics = {name: json_number(value) for name, value in found.items()}
    bounds = {name: [json_number(low), json_number(high)] for name, (low, high) in intervals.items()}
    return {"metrics": metrics, "intervals": bounds, "interval_method": METHODS[clusters(groups)[1]]}


def described(table: Table, split: Split, cautions: Sequence[str] = ()) -> dict[str, Any]:
    """What a reader must know of the images behind the metrics.

    Args:
        table: the dataset.
        split: its parts.
        cautions: sentences that every row of the cell carries as a badge, beside the dataset's own; "" is none.
    """
    return {
        "classes": list(table.classes),
        "images": len(table),
        "expected": table.expected,
        "majority": _majority(table, split),
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_test": len(split.test),
        "groups_test": len(np.unique(table.groups[split.test])),
        "synthetic": table.synthetic,
        "fingerprint": table.fingerprint(),
        "test_fingerprint": digest(sorted(table.ids[split.test].tolist())),
        "paper_name": table.paper_name,
        "audit": audit_verdict(table, split),
        "notes": list(table.notes),
        "cautions": [words for words in (table.caution, *cautions) if words],
    }


def _majority(table: Table, split: Split) -> str:
    """The most frequent class of the training images; the first of those that are equally so."""
    return table.classes[int(np.bincount(table.labels[split.train], minlength=len(table.classes)).argmax())]


def json_number(value: float) -> float | None:
    """A finite number, or None: JSON has no NaN, and a metric that is not defined is not zero."""
    return float(value) if np.isfinite(value) else None
