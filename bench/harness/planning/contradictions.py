"""Settings that contradict each other or the dataset, found before the first cell is fitted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bench.core.cellspec import CENTRALIZED, LOCAL_ONLY, CellSpec
from bench.core.config import CENTRALIZED_FIELDS, Federation, Protocol
from bench.core.errors import UserError
from bench.data.splits import split
from bench.data.table import Table
from federated.algorithms.registry import ALGORITHMS, algorithm_of
from federated.data.partitions import divide
from federated.privacy.mechanism import accounting

TWIN = "twin"


def refuse_unmeant(spec: CellSpec) -> None:
    """Refuse settings that would mean nothing in a cell, or that contradict each other. Raises UserError."""
    protocol = spec.protocol
    changed = [name for name in CENTRALIZED_FIELDS if getattr(protocol, name) != Protocol.model_fields[name].default]
    if changed and spec.regime != CENTRALIZED:
        raise UserError(
            f"{changed[0]} = {getattr(protocol, changed[0])} means nothing under {spec.regime}, whose clients take "
            f"plain steps; use --regimes {CENTRALIZED}, or leave it at {Protocol.model_fields[changed[0]].default}"
        )
    if protocol.precision == "fp16" and spec.regime != CENTRALIZED:
        raise UserError(
            f"precision = fp16 needs its losses scaled, which the plain steps under {spec.regime} do without; use "
            "--set precision=bf16"
        )
    needs_images = [name for name in ("cutmix", "layer_decay") if name == protocol.mix or name in changed]
    if needs_images and protocol.tuning == "head":
        raise UserError(f"{needs_images[0]} means nothing where the head alone is trained; use --set tuning=full")
    if protocol.feature_views > 1 and protocol.tuning == "full":
        raise UserError("feature_views above 1 are stored maps of a frozen backbone; use --set tuning=head")
    if spec.regime in ALGORITHMS:
        _refuse_unmeant_rounds(spec.regime, protocol.federated)


def _refuse_unmeant_rounds(regime: str, federation: Federation) -> None:
    algorithm = algorithm_of(regime, federation)
    clients = None if federation.partition == "site" else federation.clients
    if federation.local_steps is not None and federation.local_epochs != 1:
        raise UserError(
            f"federated.local_steps = {federation.local_steps} takes the place of whole epochs, and local_epochs = "
            f"{federation.local_epochs} asks for those; set one of them"
        )
    if clients is None:
        return
    if "malicious" in algorithm.reads and federation.malicious >= clients:
        raise UserError(
            f"federated.malicious = {federation.malicious} of {clients} clients leaves none that can be trusted; "
            "set fewer, or more clients"
        )
    if federation.secure_aggregation and clients * federation.participation < 2:
        raise UserError(
            "secure_aggregation hides a client's update among others, and a round asks for one client alone; raise "
            "federated.clients or federated.participation"
        )


def refuse_cell(spec: CellSpec, table: Table) -> None:
    """Refuse a cell that cannot run here: its settings, or a dataset that cannot be divided as they ask.

    Raises:
        UserError: settings that contradict each other; parts or clients that would stay empty; a batch that is larger
            than the training part; privacy whose epsilon could not be told.
    """
    refuse_unmeant(spec)
    if spec.regime in ALGORITHMS and spec.protocol.federated.privacy != "none":
        accounting()
    federation = spec.protocol.federated if _has_clients(spec.regime) else None
    train = _divided(_Once(table), spec.split, spec.data_seed, federation)
    if federation is None and spec.protocol.batch_size > train:
        raise UserError(
            f"batch_size = {spec.protocol.batch_size} is more than the {train} training images of {spec.dataset}; "
            f"use --set batch_size={min(train, 32)} or less"
        )


def _has_clients(regime: str) -> bool:
    return regime in ALGORITHMS or regime in (LOCAL_ONLY, TWIN)


class _Once:
    """A table that is told from others by being itself, so that its divisions are remembered."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.table is self.table

    def __hash__(self) -> int:
        return id(self.table)


@lru_cache(maxsize=32)
def _divided(once: _Once, kind: str, seed: int, federation: Federation | None) -> int:
    """The number of training images. Raises UserError where parts or clients would stay empty."""
    table = once.table
    rows = split(table, kind, seed).train
    if federation is not None:
        divide(
            table.labels[rows],
            table.groups[rows],
            np.asarray(table.sites)[rows],
            federation.partition,
            clients=federation.clients,
            classes=len(table.classes),
            alpha=federation.alpha,
            shards=federation.shards,
            seed=seed,
        )
    return len(rows)
