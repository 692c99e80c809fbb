"""What a fit is handed of a dataset: one part of a split, read batch by batch from an array that it cannot reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.sealed import held, hold
from bench.data.table import Table

_ROWWISE = ("rows", "labels", "ids", "groups", "sites")


class Rows:
    """Some rows of an array, by their positions 0 <= p < N: reading copies them, and nothing else can be read.

    The array, often a memory map of a whole dataset, is no attribute. A pickled copy holds these rows alone.

    Args:
        array: [M, ...], which has the rows.
        rows: int64 [N], each 0 <= row < M.

    Attributes:
        shape: [N, ...], of what can be read.
        dtype: of the array.
    """

    __slots__ = ("__weakref__", "dtype", "shape")

    def __init__(self, array: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.shape: tuple[int, ...] = (len(rows), *array.shape[1:])
        self.dtype: np.dtype[Any] = array.dtype
        hold(self, (array, np.array(rows, dtype=np.int64)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: Any) -> NDArray[Any]:
        """Copy what is at a position, an array of positions or a slice. Raises IndexError beyond the last one."""
        array, rows = held(self)
        # An index that is an array always copies; a number would give a view, whose base is the whole array.
        wanted = rows[positions]
        taken: NDArray[Any] = np.asarray(array[np.atleast_1d(wanted)])
        return taken if np.ndim(wanted) else taken[0].copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All the rows, copied."""
        if copy is False:
            raise ValueError("rows of a shared array are always copied")
        return self[:] if dtype is None else self[:].astype(dtype)

    def __reduce__(self) -> tuple[Callable[[NDArray[Any]], Rows], tuple[NDArray[Any]]]:
        return _unpickled, (self[:],)

    def subset(self, positions: NDArray[np.int64]) -> Rows:
        """The rows at these positions alone."""
        array, rows = held(self)
        return Rows(array, rows[positions])

    def joined(self, other: Rows) -> Rows:
        """These rows and then another's. Raises ValueError when they are not of the same array."""
        (array, rows), (others, more) = held(self), held(other)
        if others is not array:
            raise ValueError("parts can be joined when they are of the same inputs, and these are not")
        return Rows(array, np.concatenate([rows, more]))


def _unpickled(array: NDArray[Any]) -> Rows:
    return Rows(array, np.arange(len(array)))


@dataclass(frozen=True)
class Part:
    """One part of a split: some rows of an array that other parts share, and of which it can read no others.

    Attributes:
        inputs: uint8 images [N, H, W, 3], or float feature maps [N, C, h, w], copied when they are read. Made from a
            whole array [M, ...], M >= N, of which `rows` are taken.
        rows: where the images stand in the dataset's table, int64 [N].
        labels: class numbers, int64 [N].
        ids, groups, sites: strings [N].
        views: other inputs of the same shape, feature maps of augmented copies of the same images.

    Raises:
        ValueError: `inputs` that were taken before are not as many as `rows`.
    """

    inputs: Rows | NDArray[Any]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    sites: NDArray[np.str_]
    views: tuple[Rows | NDArray[Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _taken(self.inputs, self.rows))
        object.__setattr__(self, "views", tuple(_taken(view, self.rows) for view in self.views))

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The inputs at positions 0 <= p < N of this part, copied: [len(positions), ...]."""
        return self.inputs[positions]

    def gather_any_view(self, positions: NDArray[np.int64], draw: np.random.Generator) -> NDArray[Any]:
        """Like `gather`, each image from one of its views or from `inputs`, drawn with equal chances."""
        inputs = self.gather(positions)
        chosen = draw.integers(0, 1 + len(self.views), len(positions))
        for number, view in enumerate(self.views, start=1):
            here = np.flatnonzero(chosen == number)
            inputs[here] = view[positions[here]]
        return inputs

    def joined(self, other: Part) -> Part:
        """This part's images and then another's of the same arrays."""
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ROWWISE}
        views = tuple(_own(mine).joined(_own(more)) for mine, more in zip(self.views, other.views, strict=True))
        return replace(self, inputs=_own(self.inputs).joined(_own(other.inputs)), views=views, **both)

    def subset(self, positions: NDArray[np.int64]) -> Part:
        """The part that holds only these positions (a federated client's share)."""
        some = {name: getattr(self, name)[positions] for name in _ROWWISE}
        views = tuple(_own(view).subset(positions) for view in self.views)
        return replace(self, inputs=_own(self.inputs).subset(positions), views=views, **some)


def _own(inputs: Rows | NDArray[Any]) -> Rows:
    assert isinstance(inputs, Rows)
    return inputs


def _taken(inputs: Rows | NDArray[Any], rows: NDArray[np.int64]) -> Rows:
    if not isinstance(inputs, Rows):
        return Rows(inputs, rows)
    if len(inputs) != len(rows):
        raise ValueError(f"a part of {len(rows)} rows was given {len(inputs)} inputs; take both with `subset`")
    return inputs


def part(table: Table, inputs: NDArray[Any], rows: NDArray[np.int64], views: tuple[NDArray[Any], ...] = ()) -> Part:
    """The part of a table at some rows.

    Args:
        table: gives the labels, ids, groups and sites.
        inputs: images or feature maps, a row for each of the table's [N, ...]; the part reads its own rows alone.
        rows: positions in the table [M].
        views: further inputs [N, ...] of the same images, from augmented copies.
    """
    columns = ("labels", "ids", "groups", "sites")
    # Copies throughout: a view's base would be a whole column of the table.
    rows = np.array(rows)
    return Part(inputs, rows, **{name: getattr(table, name)[rows] for name in columns}, views=views)
