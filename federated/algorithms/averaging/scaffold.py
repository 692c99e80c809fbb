"""SCAFFOLD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from federated.algorithms.base import Algorithm, Arrays, Correction, Vector

if TYPE_CHECKING:
    from federated.client.local import LocalRound
    from federated.server.vectors import Model, Update


class Scaffold(Algorithm):
    """Steps along g(w) + c - c_k (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, option II).

    After K steps of size eta a client's variate becomes c_k - c + (w_t - w_k) / (K eta); the server's stays the
    clients' mean, with FedAvg's weights. The client remembers c_k and sends its change; the server sends c.
    """

    name = "scaffold"
    summary = "control variates against client drift"
    private = False
    secret = False

    def shared(self, weights: Vector) -> Vector:
        """The server's variate: zeros [P]."""
        return np.zeros_like(weights)

    def correction(self, local: LocalRound) -> Correction:
        """Adds c - c_k."""
        return local.adding(local.shared - self._variate(local))

    def finish(self, local: LocalRound, trained: Vector, steps: int) -> tuple[Vector, Arrays]:
        """The variate's change is sent, the variate remembered."""
        change = (local.known - trained) / np.float32(steps * local.work.learning_rate) - local.shared
        change = change.astype(np.float32)
        return change, {"control": self._variate(local) + change}

    def next_shared(self, updates: Sequence[Update], model: Model, examples: float) -> Vector:
        """The mean of the variates of all clients, those not asked included."""
        if not updates:
            return model.shared
        change = sum(u.shared.astype(np.float64) * (u.examples / examples) for u in updates)
        return np.asarray((model.shared + change).astype(np.float32))

    def _variate(self, local: LocalRound) -> Vector:
        return np.asarray(local.memory.get("control", np.zeros_like(local.known)))
