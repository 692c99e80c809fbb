"""FedLC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from federated.algorithms.base import Algorithm, Options

if TYPE_CHECKING:
    from federated.client.gradients import Plain
    from federated.client.local import LocalRound


class FedLCOptions(Options):
    """FedLC's own settings."""

    tau: float = Field(1.0, ge=0, le=100, description="of the margins; 0: FedAvg")


class FedLC(Algorithm):
    """Logits calibrated by the client's own class counts (Zhang et al. 2022, arXiv 2209.00189, eq. 8).

    The loss is cross-entropy of f_c - tau n_c^(-1/4), with n_c the client's training images of class c: rare classes
    get a margin. A class that the client does not hold is out of its loss, the formula's limit. Counts stay with the
    client.
    """

    name = "fedlc"
    summary = "logits calibrated by the clients' class counts, against skewed labels"
    Settings = FedLCOptions

    def gradient(self, local: LocalRound) -> Plain:
        """The gradient of the calibrated loss."""
        if self.settings.tau == 0:
            return local.plain()
        from federated.client.calibrated import Calibrated

        return Calibrated(local, self.settings.tau)
