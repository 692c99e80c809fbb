"""One cell of the grid, its identity and its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.config import Protocol
from bench.core.identity import derive_seed, digest, without_defaults

IDENTITY_VERSION = 1
CENTRALIZED = "centralized"
LOCAL_ONLY = "local-only"
# Stands between the parts of a cell's readable name.
BETWEEN = " · "
# Begins the names of models whose predictions were brought in a file.
EXTERNAL = "external:"
# Other words of identity version 1: keys are still made with them, and cells stored with them still open.
EARLIER_REGIMES = {LOCAL_ONLY: "local"}
EARLIER_POLICIES = {"personal": "local"}
# Fields of a cell that came after identity version 1, by dotted name ("protocol.federated.name"), each with its default
# of the day it came. A field that stands at it is left out of the key, so that it orphans no cell stored before. A line
# is frozen: it stays as it is even when the field's own default changes.
ADDED: dict[str, Any] = {
    "protocol.federated.options": {},
    "protocol.label_smoothing": 0.0,
    "protocol.class_balance": "none",
    "protocol.mix": "none",
    "protocol.mix_alpha": 0.4,
    "protocol.ema_decay": 0.0,
    "protocol.layer_decay": 1.0,
    "protocol.engine": "torch",
}


@dataclass(frozen=True)
class CellSpec:
    """The unit of work: one model trained once on one dataset under one regime.

    Attributes:
        split: "grouped", "image", "official", "official:N" for fold N of an author's folds, or "site:NAME", which tests
            on that site.
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
        return name_of(vars(self))

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values, federated settings and an algorithm's options only where they matter."""
        excluded = {"federated"} if self.regime == CENTRALIZED else set()
        protocol = self.protocol.model_dump(mode="json", exclude=excluded)
        if "federated" in protocol:
            options = protocol["federated"]["options"]
            own = {name: values for name, values in options.items() if name == self.regime}
            protocol["federated"] |= {"options": own}
            if not own:
                del protocol["federated"]["options"]
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
        identity = _in_words(self.as_dict(), EARLIER_REGIMES, EARLIER_POLICIES)
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


def name_of(spec: Mapping[str, Any]) -> str:
    """What people read of a cell's fields, the protocol aside."""
    model, dataset, split, regime, seed = (spec[name] for name in ("model", "dataset", "split", "regime", "seed"))
    return BETWEEN.join((model, dataset, split, regime, f"seed {seed}"))


def with_todays_words(spec: dict[str, Any]) -> dict[str, Any]:
    """A stored cell's fields, with the words of today where it was stored with earlier ones."""
    regimes, policies = ({old: new for new, old in words.items()} for words in (EARLIER_REGIMES, EARLIER_POLICIES))
    return _in_words(spec, regimes, policies)


def _in_words(spec: dict[str, Any], regimes: dict[str, str], policies: dict[str, str]) -> dict[str, Any]:
    found = {**spec}
    if "regime" in spec:
        found["regime"] = regimes.get(spec["regime"], spec["regime"])
    federated = spec.get("protocol", {}).get("federated", {})
    if "batch_norm" in federated:
        policy = policies.get(federated["batch_norm"], federated["batch_norm"])
        found["protocol"] = {**spec["protocol"], "federated": {**federated, "batch_norm": policy}}
    return found


def data_seed(dataset: str, split: str, seed: int) -> int:
    """The seed by which a dataset is divided and its batches are drawn.

    Args:
        dataset: its registered name.
        split: the kind of split, "grouped" say: each kind draws anew.
        seed: the user's seed number, 0, 1, 2, ...
    """
    return derive_seed("data", dataset, split, seed)
