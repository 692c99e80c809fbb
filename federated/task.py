"""What a consortium agrees on before a run: everything that server and sites must build alike. It travels as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import bench
from bench.core.cellspec import CellSpec
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.identity import canonical, derive_seed, digest
from models.batches import Preparation
from models.network import Network
from models.registry import MODELS, ModelSpec
from models.weights import ResolvedWeights, load, normalization, resolve


@dataclass(frozen=True)
class Task:
    """A federated cell of a deployment.

    Attributes:
        cohort: what stands in a cell's place of the dataset; the seeds depend on it.
        sites: how many sites there are; their partitions are 0 to sites - 1.
        kind: the kind of image, which chooses the augmentation at every site.
        rehearsal: every site holds the same dataset and takes its share of it, as in a simulation.
    """

    cohort: str
    model: str
    regime: str
    protocol: Protocol
    classes: tuple[str, ...]
    sites: int
    seed: int = 0
    split: str = "grouped"
    kind: str = "other"
    rehearsal: bool = False

    def to_json(self) -> str:
        """The task with the version of this package, which every site must share."""
        return canonical({**self._values(), "version": bench.__version__})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Undo `to_json`.

        Raises:
            UserError: when another version of the package wrote it.
        """
        import json

        values: dict[str, Any] = json.loads(text)
        version = values.pop("version")
        if version != bench.__version__:
            raise UserError(
                f"the task is of version {version}, this site runs {bench.__version__}; install one everywhere"
            )
        protocol = Protocol.model_validate(values.pop("protocol"))
        return cls(protocol=protocol, classes=tuple(values.pop("classes")), **values)

    def checked(self) -> Task:
        """Itself, when model, regime and settings are known and agree. Raises UserError where they do not."""
        from federated.strategies import recipe

        recipe(self.regime, self.protocol.federated)
        if len(self.classes) < 2:
            raise UserError("a task needs two classes or more: --classes glioma,meningioma")
        self.weights()
        return self

    def key(self) -> str:
        """A digest: what a site's memory between rounds is filed under."""
        return digest(self._values())

    @property
    def cell(self) -> CellSpec:
        """The cell, for its seeds."""
        return CellSpec(self.model, self.cohort, self.split, self.regime, self.protocol, self.seed)

    @property
    def spec(self) -> ModelSpec:
        """The registered model."""
        return MODELS.get(self.model)

    def weights(self) -> ResolvedWeights:
        """The initial weights; where they lie is each machine's own affair."""
        return resolve(self.protocol.weights, self.spec)

    def network(self, device: torch.device) -> Network:
        """The network before the first round: the same at the server and at every site."""
        torch.manual_seed(derive_seed(self.cell.fit_seed, "init"))
        network = self.spec.build(len(self.classes))
        load(network, self.weights())
        if self.protocol.tuning == "head":
            network.freeze_backbone()
        network.to(device)
        if self.protocol.channels_last:
            network.to(memory_format=torch.channels_last)
        return network

    def preparation(self, device: torch.device) -> Preparation:
        """How images become tensors."""
        kind: Any = self.kind if self.protocol.augmentation == "auto" else ""
        normalize = normalization(self.protocol.normalization, self.weights())
        return Preparation(normalize, kind, device, self.protocol.channels_last)

    def _values(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "protocol"}
        return {**values, "classes": list(self.classes), "protocol": self.protocol.model_dump(mode="json")}
