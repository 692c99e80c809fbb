"""A partition before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.core.cellspec import CellSpec
from bench.core.config import load_protocol
from bench.data.registry import load
from bench.data.splits import split as split_table
from federated.data.partitions import divide


def preview(dataset: str, protocol: str, overrides: list[str], split: str, seed: int) -> dict[str, Any]:
    """The clients that a cell of this dataset, split and seed would have, by class; no image is decoded.

    Args:
        dataset: its registered name.
        protocol: paper, demo, or a TOML file.
        overrides: "field=value" of the protocol.
        split: the kind of split.
        seed: the user's seed number.

    Raises:
        UserError: an unknown dataset or protocol, or a partition that the groups do not allow.
    """
    recipe = load_protocol(protocol, overrides)
    table = load(dataset, recipe)
    cell = CellSpec("", dataset, split, "fedavg", recipe, seed)
    rows = split_table(table, split, cell.data_seed).train
    federation, classes = recipe.federated, len(table.classes)
    labels = table.labels[rows]
    division = divide(
        labels,
        table.groups[rows],
        table.sites[rows],
        federation.partition,
        clients=federation.clients,
        classes=classes,
        alpha=federation.alpha,
        shards=federation.shards,
        seed=cell.data_seed,
    )
    return {
        "dataset": dataset,
        "partition": federation.partition,
        "classes": list(table.classes),
        "clients": list(division.names),
        "train": np.asarray(division.table(labels, classes)).tolist(),
    }
