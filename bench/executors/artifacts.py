"""How a worker comes by a cell's images and initial weights: found on its own machine, or sent by the driver once.

Of a dataset the decoded images travel, not the files, and land in the worker's cache, where the next cell finds them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.atomic import write_bytes
from bench.core.cellspec import CellSpec
from bench.core.errors import UserError
from bench.core.paths import cache
from bench.data import registry as datasets
from bench.data.audit.store import store_audit, stored_audit
from bench.data.images.cache import are_cached, images, keep
from bench.data.table import Pixels, Table
from bench.harness.plan import PlannedCell
from models.weights.initial import ResolvedWeights, bring, hub_copy, is_copy

Missing = Literal["images", "weights"]


@dataclass(frozen=True)
class RemoteImages:
    """Images that stayed with the driver: their checksums are known, their pixels are not."""

    dataset: str
    checksums: NDArray[np.str_]

    def read(self, index: int) -> Pixels:
        """Not here. Raises UserError."""
        raise UserError(
            f"the decoded images of {self.dataset} are gone from this worker's cache {cache()}; start again, "
            "and they are sent again"
        )

    def checksum(self, index: int) -> str:
        """The checksum at a row."""
        return str(self.checksums[index])


@dataclass(frozen=True)
class DatasetMetadata:
    """A dataset without its pixels, as every cell of it carries it along.

    Attributes:
        table: its images are `RemoteImages`.
        size: pixels a side that the cell needs.
        audit: the stored audit of the pictures, so that the worker's verdict is the driver's.
    """

    table: Table
    size: int
    audit: dict[str, Any] | None


@functools.lru_cache(maxsize=64)
def metadata_of(table: Table, size: int) -> DatasetMetadata:
    """What travels of a dataset; every cell of it carries the same."""
    return DatasetMetadata(replace(table, images=RemoteImages(table.name, table.checksums)), size, stored_audit(table))


def find_table(spec: CellSpec, metadata: DatasetMetadata) -> Table | None:
    """The cell's table on this machine, with images that can be had here; None where they must be sent."""
    if metadata.audit is not None and stored_audit(metadata.table) is None:
        store_audit(metadata.table, metadata.audit)
    if are_cached(metadata.table, metadata.size):
        return metadata.table
    return _own_copy(spec, metadata.table.fingerprint())


@functools.lru_cache(maxsize=16)
def _own_copy(spec: CellSpec, fingerprint: str) -> Table | None:
    """The dataset as this machine has it, if it is the same one."""
    try:
        table = datasets.load(spec.dataset, spec.protocol)
    except UserError:
        return None
    return table if table.fingerprint() == fingerprint else None


def find_weights(resolved: ResolvedWeights) -> ResolvedWeights | None:
    """The cell's weights with a path on this machine; None where the file must be sent."""
    if resolved.path is None:
        return resolved
    for path in (resolved.path, hub_copy(resolved.path.name), _sent_weights(resolved)):
        if is_copy(path, resolved):
            return replace(resolved, path=path)
    return None


def send_images(table: Table, size: int) -> Pixels:
    """The driver's decoded images, uint8 [N, size, size, 3]."""
    return images(table, size)


def receive_images(metadata: DatasetMetadata, pixels: Pixels) -> None:
    """Put sent images into this machine's cache."""
    keep(metadata.table, metadata.size, pixels)


def send_weights(cell: PlannedCell) -> bytes:
    """The bytes of the driver's weight file, downloaded if need be."""
    return bring(cell.weights).read_bytes()


def receive_weights(resolved: ResolvedWeights, content: bytes) -> None:
    """Put a sent weight file into this machine's cache."""
    write_bytes(_sent_weights(resolved), content)


def _sent_weights(resolved: ResolvedWeights) -> Path:
    assert resolved.path is not None
    return cache() / "weights" / resolved.identity.replace(":", "-") / resolved.path.name
