"""Groups that share a picture become one group, so that a grouped split cannot tear them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.data.table import Table, text_column


def with_joined_groups(table: Table) -> Table:
    """Join the groups of byte-identical files, and of the pairs that a stored audit of these pictures found.

    Returns:
        the same table when there is nothing to join; else one whose joined groups bear their first name.
    """
    from bench.data.audit.store import stored_pairs

    if table.synthetic:
        return table
    pairs = [*identical_pairs(table.checksums), *stored_pairs(table)]
    groups = merged(table.groups, pairs)
    joined = len(np.unique(table.groups)) - len(np.unique(groups))
    if not joined:
        return table
    note = f"{joined} groups joined with another one, because the same picture is in both"
    return replace(table, groups=groups, notes=(*table.notes, note))


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
