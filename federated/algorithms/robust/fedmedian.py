"""FedMedian."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federated.algorithms.robust.base import Robust

if TYPE_CHECKING:
    from flwr.serverapp.strategy import FedAvg


class FedMedian(Robust):
    """w[i] = median over the clients of w_k[i], without weights (Yin et al. 2018, arXiv 1803.01498, algorithm 1)."""

    name = "fedmedian"
    summary = "coordinate-wise median, against hostile clients"

    def strategy(self) -> FedAvg:
        """Flower's own."""
        from flwr.serverapp.strategy import FedMedian as Rule

        from federated.server.rules import FEW

        return Rule(**FEW)
