"""One cell of the grid, its identity and its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.core.config import Protocol
from bench.core.identity import derive_seed, digest, without_defaults

IDENTITY_VERSION = 1
CENTRALIZED = "centralized"
# Fields of a cell that came after identity version 1, by dotted name ("protocol.federated.name"), each with its default
# of the day it came. A field that stands at it is left out of the key, so that it orphans no cell stored before. A line
# is frozen: it stays as it is even when the field's own default changes.
ADDED: dict[str, Any] = {
    "protocol.label_smoothing": 0.0,
    "protocol.class_balance": "none",
    "protocol.mix": "none",
    "protocol.mix_alpha": 0.4,
    "protocol.ema_decay": 0.0,
    "protocol.layer_decay": 1.0,
}


@dataclass(frozen=True)
class CellSpec:
    """The unit of work: one model trained once on one dataset under one regime.

    Attributes:
        split: "grouped", "image", "official", or "official:N" for fold N of an author's folds.
        seed: the user's seed number; everything random is derived from it by hashing.
    """

    model: str
    dataset: str
    split: str
    regime: str
    protocol: Protocol
    seed: int

    @property
    def name(self) -> str:
        """What people read: model, dataset and what distinguishes the cell among its likes."""
        return f"{self.model} · {self.dataset} · {self.split} · {self.regime} · seed {self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values, federated settings only where they matter."""
        excluded = {"federated"} if self.regime == CENTRALIZED else set()
        protocol = self.protocol.model_dump(mode="json", exclude=excluded)
        names = ("model", "dataset", "split", "regime", "seed")
        return {**{name: getattr(self, name) for name in names}, "protocol": protocol}

    def key(self, model: dict[str, Any], dataset: str, weights: str) -> str:
        """The cell's key: a versioned digest of everything that its result depends on.

        Fields that came later (`ADDED`) are left out where they stand at their defaults.

        Args:
            model: the registered model's own parameters, so that a changed model is a new cell.
            dataset: the dataset's fingerprint.
            weights: the digest of the initial weights, so that a file's path or name does not count.
        """
        identity = self.as_dict()
        identity["protocol"] = {**identity["protocol"], "weights": weights}
        identity = without_defaults(identity, ADDED)
        return digest({"version": IDENTITY_VERSION, "cell": identity, "model": model, "data": dataset}, length=20)

    @property
    def data_seed(self) -> int:
        """The seed of the split and the batches: the variants of an ablation see the same ones."""
        return data_seed(self.dataset, self.split, self.seed)

    @property
    def fit_seed(self) -> int:
        """The seed of initial weights and dropout; it depends on the split, not on the model."""
        return derive_seed("fit", self.dataset, self.split, self.seed)


def data_seed(dataset: str, split: str, seed: int) -> int:
    """The seed by which a dataset is divided and its batches are drawn, from the user's seed number."""
    return derive_seed("data", dataset, split, seed)
