"""FedAvgM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.core.config import Federation
from federated.algorithms.base import Algorithm, Arrays, Vector

if TYPE_CHECKING:
    from federated.server.vectors import Model, Update


class FedAvgM(Algorithm):
    """Momentum at the server: v = beta v + (w_t - mean), w = w_t - eta v (Hsu et al. 2019, arXiv 1909.06335).

    Settings: `server_learning_rate` eta > 0 (none: 1), `server_momentum` 0 <= beta < 1; with 1 and 0 it is FedAvg. The
    server remembers v.
    """

    name = "fedavgm"
    summary = "momentum at the server"
    reads = ("server_learning_rate", "server_momentum")

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation)
        self._momentum: Vector | None = None

    def stepped(self, mean: Vector, updates: Sequence[Update], model: Model, clients: int) -> Vector:
        """A step along the momentum."""
        rate, beta = self.federation.server_learning_rate or 1.0, self.federation.server_momentum
        if rate == 1.0 and beta == 0.0:
            return mean  # w - (w - mean) is not the mean to the last bit
        change = model.weights - mean
        self._momentum = change if self._momentum is None else np.asarray(beta * self._momentum + change)
        return np.asarray(model.weights - rate * self._momentum)

    def memory(self) -> Arrays:
        """The momentum v."""
        return {} if self._momentum is None else {"momentum_vector": self._momentum}

    def remember(self, memory: Arrays) -> None:
        """Undo `memory`."""
        self._momentum = memory.get("momentum_vector")
