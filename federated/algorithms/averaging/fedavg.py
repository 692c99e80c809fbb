"""FedAvg."""

from __future__ import annotations

from federated.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Weighted mean of the clients' models: w = sum_k n_k / n w_k (McMahan et al. 2017, arXiv 1602.05629, alg. 1)."""

    name = "fedavg"
    summary = "weighted mean of the clients' models (the paper's algorithm 1 with SGD)"
