"""What a fit is handed of a dataset: one part of a split, read batch by batch from a shared array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.table import Table

_ROWWISE = ("rows", "labels", "ids", "groups", "sites")


@dataclass(frozen=True)
class Part:
    """One part of a split: some rows of an array that other parts share.

    Attributes:
        inputs: uint8 images [M, H, W, 3], or float feature maps [M, C, h, w]; memory-mapped, M >= N.
        rows: the part's rows of `inputs`, int64 [N].
        labels: class numbers, int64 [N].
        ids, groups, sites: strings [N].
        views: other arrays of the shape of `inputs`, feature maps of augmented copies of the same images.
    """

    inputs: NDArray[Any]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    sites: NDArray[np.str_]
    views: tuple[NDArray[Any], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """The inputs at positions 0 <= p < N of this part, copied: [len(positions), ...]."""
        return np.asarray(self.inputs[self.rows[positions]])

    def gather_any_view(self, positions: NDArray[np.int64], draw: np.random.Generator) -> NDArray[Any]:
        """Like `gather`, each image from one of its views or from `inputs`, drawn with equal chances."""
        inputs = self.gather(positions)
        chosen = draw.integers(0, 1 + len(self.views), len(positions))
        for number, view in enumerate(self.views, start=1):
            here = np.flatnonzero(chosen == number)
            inputs[here] = view[self.rows[positions[here]]]
        return inputs

    def joined(self, other: Part) -> Part:
        """This part's images and then another's of the same array."""
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ROWWISE}
        return replace(self, **both)  # type: ignore[arg-type]

    def subset(self, positions: NDArray[np.int64]) -> Part:
        """The part that holds only these positions (a federated client's share)."""
        return replace(self, **{name: getattr(self, name)[positions] for name in _ROWWISE})


def part(table: Table, inputs: NDArray[Any], rows: NDArray[np.int64], views: tuple[NDArray[Any], ...] = ()) -> Part:
    """The part of a table at some rows, over arrays that have a row for each of the table's."""
    columns = ("labels", "ids", "groups", "sites")
    return Part(inputs, rows, **{name: getattr(table, name)[rows] for name in columns}, views=views)
