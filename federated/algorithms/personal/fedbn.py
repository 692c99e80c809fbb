"""FedBN."""

from __future__ import annotations

from federated.algorithms.base import Algorithm


class FedBN(Algorithm):
    """FedAvg of all but the BatchNorm layers, which every client keeps (Li et al. 2021, arXiv 2102.07623)."""

    name = "fedbn"
    summary = "FedAvg; BatchNorm layers stay with the clients"
    batch_norm = "personal"
