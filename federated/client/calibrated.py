"""The gradient of FedLC's calibrated loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from federated.client.gradients import Plain

if TYPE_CHECKING:
    from federated.client.local import LocalRound


class Calibrated(Plain):
    """Cross-entropy of logits from which tau n_c^(-1/4) is taken.

    Args:
        local: a round of a client, whose training labels are counted.
    """

    def __init__(self, local: LocalRound, tau: float) -> None:
        super().__init__(local.module, local.parameters, local.micro_batches)
        self._labels, self._tau = torch.from_numpy(local.data.train_labels.copy()), tau

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the plain logits [B, k]."""
        logits = self.module(inputs)
        counts = torch.bincount(self._labels, minlength=logits.shape[1]).to(logits.device)
        return F.cross_entropy(logits.float() - margins(counts, self._tau), labels), logits


def margins(counts: Tensor, tau: float) -> Tensor:
    """What is taken from each logit [k]: tau n^(-1/4), infinite for a class of no image."""
    return tau * counts.float().pow(-0.25)
