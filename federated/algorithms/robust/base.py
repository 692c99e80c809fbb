"""What the robust rules share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from federated.algorithms.base import Algorithm, Vector

if TYPE_CHECKING:
    from federated.server.vectors import Update


class Robust(Algorithm):
    """A rule in the mean's place, for running statistics too, since a hostile client sends those as well."""

    takes_mean: ClassVar[bool] = False
    sees_updates: ClassVar[bool] = True

    def merge_buffers(self, number: int, updates: Sequence[Update]) -> Vector:
        """The clients' running statistics [B] by the same rule."""
        from federated.server.rules import aggregated

        return aggregated(self.rule, number, [(u.buffers, u.examples) for u in updates])[0]
