"""Adaptive server optimizers: algorithm 2 of Reddi et al., "Adaptive Federated Optimization" (arXiv 2003.00295).

Flower's own classes start from v = 0, and its FedAdam multiplies the step by Adam's correction of the bias for the
round after the present one (0.74 in the first round, at the default moments). Neither is in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.core.config import Federation
from federated.algorithms.base import Algorithm, Arrays, Vector

if TYPE_CHECKING:
    from federated.server.vectors import Model, Update

_RATE = 0.01


class Adaptive(Algorithm):
    """w + eta m / (sqrt(v) + tau), with m = beta_1 m + (1 - beta_1) d and d the clients' mean change.

    The moments start from m = 0 and v = tau^2; no bias is corrected. Settings: `server_learning_rate` eta > 0 (none:
    0.01), `server_tau` > 0, and beta_1, beta_2 where a subclass reads them. The server remembers m and v.
    """

    reads: ClassVar[tuple[str, ...]] = ("server_learning_rate", "server_tau", "server_beta_1", "server_beta_2")

    def __init__(self, federation: Federation) -> None:
        super().__init__(federation)
        self._first: Vector | None = None
        self._second: Vector | None = None

    def second_moment(self, moment: Vector, square: Vector) -> Vector:
        """The rule for v: from v before and d^2."""
        raise NotImplementedError

    def beta_1(self) -> float:
        """Decay of the first moment."""
        return self.federation.server_beta_1

    def stepped(self, mean: Vector, updates: Sequence[Update], model: Model, clients: int) -> Vector:
        """One step of the server's optimizer."""
        tau, change = self.federation.server_tau, mean - model.weights
        first = np.zeros_like(change) if self._first is None else self._first
        second = np.full_like(change, tau**2) if self._second is None else self._second
        self._first = np.asarray(self.beta_1() * first + (1 - self.beta_1()) * change)
        self._second = self.second_moment(second, np.square(change))
        rate = self.federation.server_learning_rate or _RATE
        return np.asarray(model.weights + rate * self._first / (np.sqrt(self._second) + tau))

    def memory(self) -> Arrays:
        """Both moments."""
        if self._first is None or self._second is None:
            return {}
        return {"m_t": self._first, "v_t": self._second}

    def remember(self, memory: Arrays) -> None:
        """Undo `memory`."""
        self._first, self._second = memory.get("m_t"), memory.get("v_t")
