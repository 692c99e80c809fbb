"""FedAdagrad."""

from __future__ import annotations

from federated.algorithms.adaptive.moments import Adaptive
from federated.algorithms.base import Vector


class FedAdagrad(Adaptive):
    """v is the sum of the squared changes, which nothing decays: v = v + d^2 (arXiv 2003.00295, algorithm 2)."""

    name = "fedadagrad"
    summary = "Adagrad at the server"
    reads = ("server_learning_rate", "server_tau")

    def beta_1(self) -> float:
        """Without momentum."""
        return 0.0

    def second_moment(self, moment: Vector, square: Vector) -> Vector:
        """The rule for v."""
        return moment + square
