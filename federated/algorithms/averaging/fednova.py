"""FedNova."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from federated.algorithms.base import Algorithm, Vector

if TYPE_CHECKING:
    from federated.server.vectors import Model, Update


class FedNova(Algorithm):
    """Each update made a step long, then all as long as the mean number of steps (Wang et al. 2020, arXiv 2007.07481).

    w_t + sum_k p_k (tau_eff / tau_k) (w_k - w_t), with tau_eff = sum_k p_k tau_k (eq. 10 and 11 for SGD). Where all
    clients take equally many steps it is FedAvg.
    """

    name = "fednova"
    summary = "updates normalized by the clients' numbers of steps"
    private = False
    secret = False

    def prepare(self, updates: Sequence[Update], model: Model) -> list[Update]:
        """The updates, each of the mean number of steps."""
        total = sum(u.examples for u in updates)
        effective = sum(u.examples / total * u.steps for u in updates)
        return [u if u.steps == effective else _lengthened(u, model.weights, effective / u.steps) for u in updates]


def _lengthened(update: Update, start: Vector, factor: float) -> Update:
    longer = start + factor * (update.weights.astype(np.float64) - start)
    return replace(update, weights=longer.astype(np.float32))
