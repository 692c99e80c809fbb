"""FedProx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from federated.algorithms.base import Algorithm, Correction

if TYPE_CHECKING:
    from federated.client.local import LocalRound


class FedProx(Algorithm):
    """A pull to the round's model: g(w) + mu (w - w_t) (Li et al. 2020, arXiv 1812.06127, eq. 2).

    Settings: `proximal_mu`, mu >= 0; at 0 it is FedAvg.
    """

    name = "fedprox"
    summary = "FedAvg with a pull to the round's model"
    reads = ("proximal_mu",)

    def correction(self, local: LocalRound) -> Correction | None:
        """The pull, or None at mu = 0."""
        return local.pull(self.federation.proximal_mu)
