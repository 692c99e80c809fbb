"""FedExP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from federated.algorithms.base import Algorithm, Options, Vector

if TYPE_CHECKING:
    from federated.server.vectors import Model, Update


class FedExPOptions(Options):
    """FedExP's own settings."""

    epsilon: float = Field(1e-3, ge=0, description="keeps the step small near the optimum; large: FedAvg")


class FedExP(Algorithm):
    """A server's step as long as the clients disagree (Jhunjhunwala et al. 2023, arXiv 2301.09604, eq. 4 and alg. 1).

    w_t + eta d, with d the mean of the changes d_k and eta = max(1, sum_k p_k |d_k|^2 / (2 (|d|^2 + epsilon))); p_k are
    FedAvg's weights, 1 / M in the paper.
    """

    name = "fedexp"
    summary = "a server's step as long as the clients disagree"
    Settings = FedExPOptions
    sees_updates = True
    private = False
    secret = False

    def stepped(self, mean: Vector, updates: Sequence[Update], model: Model, clients: int) -> Vector:
        """The extrapolated step."""
        total = sum(u.examples for u in updates)
        squares = [u.examples / total * _square(u.weights, model.weights) for u in updates]
        below = 2 * (_square(mean, model.weights) + self.settings.epsilon)
        length = sum(squares) / below if below > 0 else 1.0
        if length <= 1:
            return mean
        return np.asarray(model.weights + np.float32(length) * (mean - model.weights))


def _square(vector: Vector, start: Vector) -> float:
    return float(np.square(vector.astype(np.float64) - start).sum())
