"""Groups that share a picture become one group, so that a grouped split cannot tear them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.data.splits import Split
from bench.data.table import Table, text_column


def identical_pairs(checksums: Sequence[str] | NDArray[np.str_]) -> list[tuple[int, int]]:
    """Rows with equal checksums, each paired with the first of its kind."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(str(checksum), row), row) for row, checksum in enumerate(checksums)]
    return [(left, right) for left, right in pairs if left != right]


def merged(groups: NDArray[np.str_], pairs: Iterable[tuple[int, int]]) -> NDArray[np.str_]:
    """The groups [N] after joining those of each pair of rows; a joined group takes its first name in sorting order."""
    names, member = np.unique(groups, return_inverse=True)
    leader = list(range(len(names)))

    def find(group: int) -> int:
        while leader[group] != group:
            leader[group] = leader[leader[group]]
            group = leader[group]
        return group

    for left, right in pairs:
        low, high = sorted((find(int(member[left])), find(int(member[right]))))
        leader[high] = low
    return text_column(names[find(int(group))] for group in member)


def groups_in_two_parts(table: Table, split: Split) -> int:
    """How many groups have images in more than one part."""
    parts = [set(table.groups[rows].tolist()) for rows in split.parts().values()]
    members = np.array([name for part in parts for name in part], dtype=np.str_)
    return int((np.unique(members, return_counts=True)[1] > 1).sum()) if len(members) else 0
