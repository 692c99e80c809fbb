"""FedAvg with variance-reduced steps at the clients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.core.identity import derive_seed
from federated.algorithms.base import Algorithm

if TYPE_CHECKING:
    from federated.client.gradients import VarianceReduced
    from federated.client.local import LocalRound


class FedAvgSVRG(Algorithm):
    """Steps along g_i(w) - g_i(w_t) + g(w_t), w_t the round's model (Johnson and Zhang 2013; the paper's algorithm 1).

    Settings: `svrg_clip`, the largest norm of such a step's gradient, above 0; none: as printed.
    """

    name = "fedavg-svrg"
    summary = "the paper's algorithm 1 with SVRG at the clients"
    reads = ("svrg_clip",)
    still_statistics = True

    def gradient(self, local: LocalRound) -> VarianceReduced:
        """The corrected gradient, whose full gradient is taken now."""
        from federated.client.gradients import VarianceReduced

        bound = self.federation.svrg_clip
        return VarianceReduced(
            local.module,
            local.parameters,
            local.data,
            local.first_epoch,
            derive_seed(local.seed, "svrg", local.work.round),
            math.inf if bound is None else bound,
            local.micro_batches,
        )
