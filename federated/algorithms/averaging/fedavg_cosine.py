"""FedAvg with a decaying local rate."""

from __future__ import annotations

import math

from pydantic import Field

from federated.algorithms.base import Algorithm, Options


class CosineOptions(Options):
    """Settings of the decay."""

    floor: float = Field(0.0, ge=0, le=1, description="share of the rate that is left at the end; 1: FedAvg")


class FedAvgCosine(Algorithm):
    """The server lowers the clients' rate: eta_t = eta (f + (1 - f) (1 + cos(pi (t - 1) / R)) / 2) in round t of R.

    With skewed clients FedAvg at a constant rate stops away from the optimum; a decaying one goes there (Li et al.
    2020, arXiv 1907.02189, theorems 1 and 4). The cosine is Loshchilov and Hutter's (2017, arXiv 1608.03983, eq. 5).
    """

    name = "fedavg-cosine"
    summary = "FedAvg; the clients' rate decays over the rounds as a cosine"
    Settings = CosineOptions

    def learning_rate(self, base: float, number: int, rounds: int) -> float:
        """The rate of round `number`."""
        floor = self.settings.floor
        return float(base * (floor + (1 - floor) * (1 + math.cos(math.pi * (number - 1) / rounds)) / 2))
