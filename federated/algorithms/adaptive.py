"""Adaptive server optimizers: algorithm 2 of Reddi et al., "Adaptive Federated Optimization" (arXiv 2003.00295).

Flower's own classes start from v = 0, and its FedAdam multiplies the step by Adam's correction of the bias for the
round after the present one (0.74 in the first round, at the default moments). Neither is in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy.fedopt import FedOpt
from numpy.typing import NDArray

Numbers = NDArray[Any]
SecondMoment = Callable[[Numbers, Numbers, float], Numbers]


def adagrad(moment: Numbers, square: Numbers, _: float) -> Numbers:
    """The sum of the squared changes, which nothing decays."""
    return moment + square


def adam(moment: Numbers, square: Numbers, beta_2: float) -> Numbers:
    """The moving average of the squared changes."""
    return beta_2 * moment + (1 - beta_2) * square


def yogi(moment: Numbers, square: Numbers, beta_2: float) -> Numbers:
    """A step of fixed size towards the squared change."""
    stepped: Numbers = moment - (1 - beta_2) * square * np.sign(moment - square)
    return stepped


class Adaptive(FedOpt):
    """x + eta * m / (sqrt(v) + tau), with m = beta_1 * m + (1 - beta_1) * d and d the clients' mean change.

    The moments start from m = 0 and v = tau**2; no bias is corrected.

    Args:
        second_moment: the rule for v: v before, d**2, beta_2.
        options: `eta`, `tau`, `beta_1`, `beta_2`, and FedAvg's own arguments.
    """

    def __init__(self, second_moment: SecondMoment, **options: Any) -> None:
        super().__init__(**options)
        self._second_moment = second_moment

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next arrays, and the clients' mean metrics; None where no reply can be used."""
        mean, metrics = FedAvg.aggregate_train(self, server_round, replies)
        if mean is None:
            return None, metrics
        changes, first, arrays = self._compute_deltat_and_mt(mean)
        before = self.v_t or {name: np.full_like(values, self.tau**2) for name, values in arrays.items()}
        self.v_t = {name: self._second_moment(v, np.square(changes[name]), self.beta_2) for name, v in before.items()}
        return ArrayRecord({name: self._stepped(name, first[name], self.v_t[name]) for name in arrays}), metrics

    def _stepped(self, name: str, first: Numbers, second: Numbers) -> Array:
        assert self.current_arrays is not None  # Flower's own check has passed
        return Array(np.asarray(self.current_arrays[name] + self.eta * first / (np.sqrt(second) + self.tau)))
