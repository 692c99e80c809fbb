"""FedAdam."""

from __future__ import annotations

import numpy as np

from federated.algorithms.adaptive.moments import Adaptive
from federated.algorithms.base import Vector


class FedAdam(Adaptive):
    """v, the moving average of squared changes: v = beta_2 v + (1 - beta_2) d^2 (arXiv 2003.00295, algorithm 2)."""

    name = "fedadam"
    summary = "Adam at the server"

    def second_moment(self, moment: Vector, square: Vector) -> Vector:
        """The rule for v."""
        beta = self.federation.server_beta_2
        return np.asarray(beta * moment + (1 - beta) * square)
