"""FedTrimmedAvg."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federated.algorithms.robust.base import Robust

if TYPE_CHECKING:
    from flwr.serverapp.strategy import FedAvg


class FedTrimmedAvg(Robust):
    """Each w[i] is the mean of what is left when the share beta is cut at either end (arXiv 1803.01498, definition 2).

    Settings: `trimmed`, 0 <= beta < 0.5.
    """

    name = "fedtrimmedavg"
    summary = "coordinate-wise trimmed mean, against hostile clients"
    reads = ("trimmed",)

    def strategy(self) -> FedAvg:
        """Flower's own."""
        from flwr.serverapp.strategy import FedTrimmedAvg as Rule

        from federated.server.rules import FEW

        return Rule(**FEW, beta=self.federation.trimmed)
