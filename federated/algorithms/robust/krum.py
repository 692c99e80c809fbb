"""Krum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from federated.algorithms.base import Vector
from federated.algorithms.robust.base import Robust

if TYPE_CHECKING:
    from flwr.serverapp.strategy import FedAvg

    from federated.server.vectors import Update


class Krum(Robust):
    """The model with the least sum of squared distances to its nearest neighbours (Blanchard et al. 2017, section 4).

    Of m clients, f of them hostile, m - f - 2 neighbours count. Settings: `malicious`, f >= 0.
    """

    name = "krum"
    summary = "the one model nearest to the others, against hostile clients"
    reads = ("malicious",)

    def strategy(self) -> FedAvg:
        """Flower's own."""
        from flwr.serverapp.strategy import Krum as Rule

        from federated.server.rules import FEW

        return Rule(**FEW, num_malicious_nodes=self.federation.malicious)

    def merge_buffers(self, number: int, updates: Sequence[Update]) -> Vector:
        """The running statistics [B] of the chosen model."""
        from flwr.serverapp.strategy.multikrum import select_multikrum

        from federated.server.rules import aggregated, content, weighted_mean

        contents = [content(u.weights, u.examples) for u in updates]
        chosen = select_multikrum(contents, self.federation.malicious, 1)
        pairs = zip(updates, contents, strict=True)
        kept = [(u.buffers, u.examples) for u, c in pairs if any(c is one for one in chosen)]
        return aggregated(weighted_mean(), number, kept)[0]
