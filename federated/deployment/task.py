"""What a consortium agrees on before a run: everything that server and sites must build alike. It travels as JSON."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args

import torch
from pydantic import ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

import bench
from bench.core.cellspec import CellSpec
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.identity import canonical, digest
from bench.core.schema import parsed_json
from bench.data import registry as datasets
from bench.data.table import Kind
from bench.harness.inputs import Source, divided_images, estimate_statistics, preparation
from bench.harness.networks import initial_network
from bench.harness.plan import Setup, settle
from models.backbones.probe import build_without_memory
from models.backbones.registry import BACKBONES
from models.calibrate import statistics
from models.recipes.batches import has_batch_norm
from models.registry import MODELS
from models.weights.initial import resolve

_EVERYWHERE = "install one version everywhere"


@with_config(ConfigDict(extra="allow"))
class _Version(TypedDict):
    version: str


@with_config(ConfigDict(extra="forbid"))
class _File(_Version):
    cohort: str
    model: str
    regime: str
    protocol: dict[str, Any]
    classes: list[str]
    sites: Annotated[int, Field(ge=1)]
    seed: int
    split: str
    kind: str
    rehearsal: bool
    statistics: str


class OtherVersion(UserError):
    """Server and site have different versions installed; the sentence tells nothing else of a site."""


@dataclass(frozen=True)
class Task:
    """A federated cell of a deployment.

    Attributes:
        cohort: what stands in a cell's place of the dataset; the seeds depend on it.
        sites: how many sites there are; their partitions are 0 to sites - 1.
        kind: the kind of image, which chooses the augmentation at every site; empty: the dataset's own in a rehearsal,
            "other" otherwise.
        rehearsal: every site holds the same dataset and takes its share of it, as in a simulation.
        statistics: BatchNorm statistics of a random, frozen backbone, base64; every site gets these and estimates none.
    """

    cohort: str
    model: str
    regime: str
    protocol: Protocol
    classes: tuple[str, ...]
    sites: int
    seed: int = 0
    split: str = "grouped"
    kind: str = ""
    rehearsal: bool = False
    statistics: str = ""

    def to_json(self) -> str:
        """The task with the version of this package, which every site must share."""
        return canonical({**self._values(), "version": bench.__version__})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Undo `to_json`.

        Raises:
            OtherVersion: when another version of the package wrote it.
            UserError: it is no task.
        """
        version = parsed_json("the task", text, _Version, _EVERYWHERE)["version"]
        if version != bench.__version__:
            raise OtherVersion(f"the task is of version {version}, this site runs {bench.__version__}; {_EVERYWHERE}")
        values = dict(parsed_json("the task", text, _File, _EVERYWHERE))
        del values["version"]
        try:
            protocol = Protocol.model_validate(values.pop("protocol"))
            base64.b64decode(str(values["statistics"]), validate=True)
        except ValueError as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"the task will not do: {said}; {_EVERYWHERE}") from error
        classes: Any = values.pop("classes")
        return cls(protocol=protocol, classes=tuple(classes), **values)  # type: ignore[arg-type]

    def checked(self) -> Task:
        """Itself, when model, regime and settings are known and agree. Raises UserError where they do not."""
        from federated.algorithms.registry import algorithm_of

        algorithm_of(self.regime, self.protocol.federated)
        if len(self.classes) < 2:
            raise UserError("a task needs two classes or more: --classes glioma,meningioma")
        if self.kind not in ("", *get_args(Kind)):
            raise UserError(f"--kind takes {', '.join(get_args(Kind))}, not {self.kind!r}")
        self._check_shares()
        self._check_statistics()
        return self

    def key(self) -> str:
        """A digest: what a site's memory between rounds is filed under."""
        return digest(self._values())

    @property
    def cell(self) -> CellSpec:
        """The cell, for its seeds."""
        return CellSpec(self.model, self.cohort, self.split, self.regime, self.protocol, self.seed)

    def setup(self) -> Setup:
        """What network and inputs are built from, at the server and at every site; weights lie where each keeps them.

        Raises:
            UserError: the initial weights cannot be had here.
        """
        weights = resolve(self.protocol.weights, MODELS.get(self.model))
        return settle(self.cell, weights, base64.b64decode(self.statistics))

    def with_statistics(self, dataset: str) -> Task:
        """The task with BatchNorm statistics that are estimated here, as a simulation of this dataset estimates them.

        Itself where the backbone is not frozen with random weights.

        Raises:
            UserError: the dataset is not available.
        """
        setup, device = self.setup(), torch.device("cpu")
        if not setup.random_backbone:
            return self
        source = Source(setup, datasets.load(dataset, self.protocol))
        network = initial_network(setup, len(self.classes), device)
        estimate_statistics(source, network, preparation(source, device), *divided_images(source))
        return replace(self, statistics=base64.b64encode(statistics(network.backbone)).decode())

    def _check_shares(self) -> None:
        federation = self.protocol.federated
        if self.rehearsal and federation.partition != "site" and federation.clients != self.sites:
            raise UserError(
                f"a rehearsal deals the dataset to federated.clients = {federation.clients} clients, and there are "
                f"{self.sites} sites: --set federated.clients={self.sites}"
            )

    def _check_statistics(self) -> None:
        setup = self.setup()
        if self.statistics or not setup.random_backbone:
            return
        if has_batch_norm(build_without_memory(BACKBONES.get(setup.model.backbone).build)):
            raise UserError(
                "a random backbone that stays frozen needs BatchNorm statistics, and the server sees no site's images: "
                "name a dataset of this machine with --statistics, or choose --set weights=imagenet or tuning=full"
            )

    def _values(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "protocol"}
        return {**values, "classes": list(self.classes), "protocol": self.protocol.model_dump(mode="json")}
