"""The one shape in which every dataset is handed on: a table of images, sorted by id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError

Pixels = NDArray[np.uint8]
Kind = Literal["brain", "skin", "other"]
PARTS = ("train", "val", "test")


class ImageSource(Protocol):
    """Where a table's pixels come from; positions are rows of the table that it was made with."""

    def read(self, index: int) -> Pixels:
        """The decoded image, uint8 [H, W] (gray) or [H, W, 3] (RGB)."""
        ...

    def checksum(self, index: int) -> str:
        """A text that changes when the picture changes; equal for byte-identical files."""
        ...


@runtime_checkable
class DrawnImages(Protocol):
    """An image source that draws at any size instead of being resized."""

    def read_at(self, index: int, size: int) -> Pixels:
        """The image drawn at `size` x `size`."""
        ...


@dataclass(frozen=True)
class Picked:
    """Some rows of another image source."""

    source: ImageSource
    rows: NDArray[np.int64]

    def read(self, index: int) -> Pixels:
        """The image at a picked row."""
        return self.source.read(int(self.rows[index]))

    def checksum(self, index: int) -> str:
        """The checksum at a picked row."""
        return self.source.checksum(int(self.rows[index]))


def read_at(source: ImageSource, index: int, size: int) -> Pixels:
    """The image, drawn at `size` where the source draws, as it is stored otherwise.

    Args:
        source: where the pixels come from.
        index: its row.
        size: pixels a side; a stored image keeps its own.

    Returns:
        uint8 [H, W] (gray) or [H, W, 3] (RGB).
    """
    if isinstance(source, Picked):
        return read_at(source.source, int(source.rows[index]), size)
    return source.read_at(index, size) if isinstance(source, DrawnImages) else source.read(index)


@dataclass(frozen=True, eq=False)
class Table:
    """A dataset as rows of images. Rows are sorted by id when the table is made, whatever order they come in.

    Attributes:
        classes: k class names; `labels` index into them.
        ids: unique texts [N].
        labels: class numbers, int64 [N].
        groups: patient or lesion [N]; an image of which none is known is a group of its own.
        sites: hospital or camera [N], "" where unknown.
        official: "train", "val", "test", a fold "1", "2", ... or "" [N].
        images: the pixels.
        kind: what the augmentation goes by.
        synthetic: drawn by code; said wherever its numbers stand.
        expected: how many images the complete dataset has, where that is known.
        notes: what was skipped or found odd while reading, a sentence each.
        caution: why results on it must not be believed, as its `DatasetSpec` says.
        metadata: what else is known of the images, a text column [N] by name ("age", "sex", "anatomy"), "" where
            unknown; no part of the fingerprint.
        masks: the file of the lesion's outline, filled [N], "" where an image has none; no part of the fingerprint.

    Raises:
        UserError: for duplicate ids, columns of different length, fewer than two classes, or no image.
    """

    name: str
    classes: tuple[str, ...]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    sites: NDArray[np.str_]
    official: NDArray[np.str_]
    images: ImageSource
    kind: Kind = "other"
    synthetic: bool = False
    expected: int | None = None
    notes: tuple[str, ...] = ()
    paper_name: str = ""
    caution: str = ""
    metadata: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    masks: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        _check(self)
        order = np.argsort(self.ids, kind="stable")
        if np.array_equal(order, np.arange(len(order))):
            return
        for name, values in _taken(self, order).items():
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def complete(self) -> bool:
        """Whether no image of the distribution is known to be missing."""
        return self.expected is None or len(self) >= self.expected

    @property
    def checksums(self) -> NDArray[np.str_]:
        """The images' checksums [N]."""
        return np.array([self.images.checksum(index) for index in range(len(self))], dtype=np.str_)

    def counts(self) -> dict[str, int]:
        """Images a class."""
        found = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, map(int, found), strict=True))

    def fingerprint(self) -> str:
        """24 hexadecimal digits that name ids, classes, labels, groups, sites, official parts and pictures."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        # A cell asks for it several times, and a table does not change.
        hasher = hashlib.sha256("\x1f".join(self.classes).encode())
        columns = (self.ids, self.labels.astype(np.str_), self.groups, self.sites, self.official, self.checksums)
        for row in zip(*columns, strict=True):
            hasher.update(("\x1e" + "\x1f".join(row)).encode())
        return hasher.hexdigest()[:24]

    def select(self, indices: NDArray[Any]) -> Table:
        """The table of these rows alone, classes unchanged."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(self, **_taken(self, rows))


def _taken(table: Table, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Every field of a table that has a value an image, at some rows."""
    columns: dict[str, Any] = {name: getattr(table, name)[rows] for name in _COLUMNS}
    columns["images"] = Picked(table.images, rows)
    columns["metadata"] = {name: values[rows] for name, values in table.metadata.items()}
    columns["masks"] = None if table.masks is None else table.masks[rows]
    return columns


_COLUMNS = ("ids", "labels", "groups", "sites", "official")


def _check(table: Table) -> None:
    lengths = {name: len(getattr(table, name)) for name in _COLUMNS}
    lengths |= {name: len(values) for name, values in table.metadata.items()}
    lengths |= {} if table.masks is None else {"masks": len(table.masks)}
    if len(set(lengths.values())) != 1:
        raise UserError(f"dataset {table.name!r}: its columns have different lengths: {lengths}")
    if not len(table):
        raise UserError(f"dataset {table.name!r} has no image")
    if len(table.classes) < 2:
        raise UserError(f"dataset {table.name!r} has {len(table.classes)} class; a classifier needs two or more")
    ids, seen = np.unique(table.ids, return_counts=True)
    if seen.max() > 1:
        raise UserError(
            f"dataset {table.name!r}: the id {str(ids[seen.argmax()])!r} stands {seen.max()} times; ids are unique"
        )
    if table.labels.min() < 0 or table.labels.max() >= len(table.classes):
        raise UserError(f"dataset {table.name!r}: labels reach outside 0 ... {len(table.classes) - 1}")


def text_column(values: Any) -> NDArray[np.str_]:
    """Any sequence of texts as a column."""
    return np.array(list(values), dtype=np.str_)
