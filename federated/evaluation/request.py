"""What is asked of a site: a frozen model, and which metrics come back. What a site approves is this, to the byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

import bench
from bench.core.atomic import write_bytes, write_text
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.identity import canonical
from bench.core.schema import read_bytes, validated
from bench.data.splits import split
from bench.data.table import Table
from bench.store.layout import PREDICTOR_ABOUT, PREDICTOR_WEIGHTS
from federated.data.partitions import divide, divide_alike

REQUEST, MODEL = "request.json", "model"
KIND = "frozen model"
_MOST_BYTES = 1 << 31
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Rehearsal:
    """Whose images are whose where every site holds one common dataset, as in a simulation.

    Attributes:
        part: "test" (of the model's own split) or "all" (of another dataset).
        partition, clients, alpha, shards: as a federation's; the clients of "test" are those of a federated cell.
        synthetic_images, image_size: how an embedded dataset is drawn.
    """

    part: str
    split: str
    seed: int
    partition: str
    clients: int
    alpha: float
    shards: int
    synthetic_images: int
    image_size: int

    @property
    def protocol(self) -> Protocol:
        """What a site opens its dataset with."""
        return Protocol(synthetic_images=self.synthetic_images, image_size=self.image_size)

    def shares(self, table: Table) -> tuple[tuple[str, ...], list[Rows]]:
        """The sites' names and the table's rows that each holds.

        Raises:
            UserError: too few groups, or a dataset that names no sites.
        """
        if self.part == "all":
            rows = np.arange(len(table))
            mine = self._divided(table, rows)
            return mine.names, list(mine.clients)
        parts = split(table, self.split, self.seed)
        division, rows = self._divided(table, parts.train), np.sort(parts.test)
        alike = divide_alike(division, table.labels[rows], table.groups[rows], table.sites[rows], seed=self.seed)
        return alike.names, [rows[images] for images in alike.clients]

    def _divided(self, table: Table, rows: Rows) -> Any:
        return divide(
            table.labels[rows],
            table.groups[rows],
            table.sites[rows],
            self.partition,
            clients=self.clients,
            classes=len(table.classes),
            alpha=self.alpha,
            shards=self.shards,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Request:
    """A question to sites.

    Attributes:
        purpose: why, in the asker's words.
        model: its registered name; sha256: of the files that travel.
        sites: how many are asked.
        fewest: a site with fewer images tells nothing but that.
        rehearsal: None where each site answers on all images of its own dataset.
    """

    purpose: str
    model: str
    sha256: str
    classes: tuple[str, ...]
    sites: int
    fewest: int = 20
    rehearsal: Rehearsal | None = None

    def to_json(self) -> str:
        """The request as it travels and is approved, with this package's version."""
        values = {**asdict(self), "classes": list(self.classes), "kind": KIND, "version": bench.__version__}
        return canonical(values)

    @property
    def digest(self) -> str:
        """SHA-256 of the request, the model's digest in it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, source: str = "the request") -> Request:
        """Undo `to_json`. Raises UserError for what is no request, or one of another version."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UserError(f"{source} is no JSON ({error}); ask the server's operator for it again") from error
        values: dict[str, Any] = dict(validated(Path(source), value, _File, "ask the server's operator for it again"))
        if values.pop("version") != bench.__version__:
            raise UserError(
                f"the request is of version {value['version']}, this is {bench.__version__}; install one everywhere"
            )
        values.pop("kind")
        rehearsal = values.pop("rehearsal")
        made = Rehearsal(**rehearsal) if rehearsal else None
        return cls(classes=tuple(values.pop("classes")), rehearsal=made, **values)


class _Rehearsal(TypedDict):
    part: str
    split: str
    seed: int
    partition: str
    clients: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)]
    shards: Annotated[int, Field(ge=1)]
    synthetic_images: int
    image_size: int


class _File(TypedDict):
    kind: str
    version: str
    purpose: str
    model: str
    sha256: str
    classes: Annotated[list[str], Field(min_length=2)]
    sites: Annotated[int, Field(ge=1)]
    fewest: Annotated[int, Field(ge=1)]
    rehearsal: _Rehearsal | None


def is_request(text: str) -> bool:
    """Whether what a run of the consortium's app was given is a request and no training task."""
    return f'"kind":"{KIND}"' in text


@dataclass(frozen=True)
class Frozen:
    """A predictor's two files as bytes."""

    about: bytes
    weights: bytes

    @classmethod
    def read(cls, folder: Path) -> Frozen:
        """From a stored predictor's folder. Raises UserError when a file is missing."""
        names = (PREDICTOR_ABOUT, PREDICTOR_WEIGHTS)
        about, weights = (read_bytes(folder / name, "run the cell again", _MOST_BYTES) for name in names)
        return cls(about, weights)

    def write(self, folder: Path) -> None:
        """As a stored predictor."""
        write_bytes(folder / PREDICTOR_WEIGHTS, self.weights)
        write_bytes(folder / PREDICTOR_ABOUT, self.about)

    @property
    def sha256(self) -> str:
        """Of both files, each with its length before it."""
        found = hashlib.sha256()
        for data in (self.about, self.weights):
            found.update(len(data).to_bytes(8, "big"))
            found.update(data)
        return found.hexdigest()


def write_request(folder: Path, request: Request, frozen: Frozen) -> None:
    """Write the request, which sites are handed to approve, and the model beside it.

    Args:
        folder: where to.
        request: the question.
        frozen: the model that it is about.
    """
    frozen.write(folder / MODEL)
    write_text(folder / REQUEST, request.to_json() + "\n")


def read_request(path: Path) -> Request:
    """Read a request. Raises UserError for what is none."""
    text = read_bytes(path, "ask the server's operator for it again").decode(errors="replace")
    return Request.from_json(text.strip(), str(path))
