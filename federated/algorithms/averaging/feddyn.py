"""FedDyn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from bench.core.config import Federation
from federated.algorithms.base import EMPTY, Algorithm, Arrays, Correction, Options, Vector

if TYPE_CHECKING:
    from federated.client.local import LocalRound
    from federated.server.vectors import Model, Update


class FedDynOptions(Options):
    """FedDyn's own settings."""

    alpha: float = Field(0.1, ge=0, le=10, description="weight of the dynamic regularizer; 0: FedAvg")


class FedDyn(Algorithm):
    """Each client's loss is regularized so that the optima agree (Acar et al. 2021, arXiv 2111.04263, algorithm 1).

    Steps along g(w) - l_k + alpha (w - w_t); afterwards l_k := l_k - alpha (w_k - w_t), which the client remembers. The
    server remembers h := h - alpha / m sum_k (w_k - w_t) over those of the m clients that answered, and takes their
    mean, each counting once, minus h / alpha. At alpha = 0 it is FedAvg, with FedAvg's weights.
    """

    name = "feddyn"
    summary = "the clients' losses regularized so that their optima agree"
    Settings = FedDynOptions
    private = False
    secret = False

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation)
        self._state: Vector | None = None

    def correction(self, local: LocalRound) -> Correction | None:
        """Adds alpha (w - w_t) - l_k."""
        alpha = self.settings.alpha
        # alpha (w - w_t) - l_k = alpha (w - (w_t + l_k / alpha))
        return local.pull(alpha, local.known + self._linear(local) / alpha) if alpha > 0 else None

    def finish(self, local: LocalRound, trained: Vector, steps: int) -> tuple[Vector, Arrays]:
        """Remembers l_k."""
        if self.settings.alpha == 0:
            return EMPTY, {}
        return EMPTY, {"linear": self._linear(local) - np.float32(self.settings.alpha) * (trained - local.known)}

    def prepare(self, updates: Sequence[Update], model: Model) -> Sequence[Update]:
        """Every client counts once."""
        return updates if self.settings.alpha == 0 else [replace(u, examples=1.0) for u in updates]

    def stepped(self, mean: Vector, updates: Sequence[Update], model: Model, clients: int) -> Vector:
        """The mean, moved by the server's state."""
        alpha = np.float32(self.settings.alpha)
        if alpha == 0:
            return mean
        before = np.zeros_like(mean) if self._state is None else self._state
        self._state = before - alpha * np.float32(len(updates) / clients) * (mean - model.weights)
        return mean - self._state / alpha

    def memory(self) -> Arrays:
        """The state h."""
        return {} if self._state is None else {"h": self._state}

    def remember(self, memory: Arrays) -> None:
        """Undo `memory`."""
        self._state = memory.get("h")

    def _linear(self, local: LocalRound) -> Vector:
        return np.asarray(local.memory.get("linear", np.zeros_like(local.known)))
