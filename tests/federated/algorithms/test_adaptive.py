"""The adaptive server optimizers against algorithm 2 of Reddi et al. (arXiv 2003.00295), worked by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.clientapp import ClientApp

from bench.core.config import Federation
from federated.algorithms.registry import algorithm_of
from federated.server.aggregate import Aggregator
from federated.server.vectors import Model, Update
from federated.simulation.inprocess import InProcessGrid

SETTINGS = Federation(server_learning_rate=0.1, server_beta_1=0.9, server_beta_2=0.99, server_tau=0.5)
NOTHING = np.empty(0, np.float32)


@dataclass
class ByHand:
    """One number's way: x_0 = 1, m_0 = 0, v_0 = tau^2 = 0.25; the mean change of the clients is 2, then -1."""

    first: float
    second: float


def _round(v_first: float, v_second: float, m_first: float, m_second: float) -> ByHand:
    first = 1.0 + 0.1 * m_first / (math.sqrt(v_first) + 0.5)
    return ByHand(first, first + 0.1 * m_second / (math.sqrt(v_second) + 0.5))


# m_1 = 0.9 * 0 + 0.1 * 2 = 0.2 and m_2 = 0.9 * 0.2 + 0.1 * (-1) = 0.08, without momentum 2 and -1.
EXPECTED = {
    # v_1 = 0.99 * 0.25 + 0.01 * 4 = 0.2875, v_2 = 0.99 * 0.2875 + 0.01 * 1 = 0.294625
    "fedadam": _round(0.2875, 0.294625, 0.2, 0.08),
    # v_1 = 0.25 - 0.01 * 4 * sign(0.25 - 4) = 0.29, v_2 = 0.29 - 0.01 * 1 * sign(0.29 - 1) = 0.30
    "fedyogi": _round(0.29, 0.30, 0.2, 0.08),
    # v_1 = 0.25 + 4 = 4.25, v_2 = 4.25 + 1 = 5.25
    "fedadagrad": _round(4.25, 5.25, 2.0, -1.0),
}


@pytest.fixture(autouse=True)
def _addresses() -> None:
    """Flower's messages take their addresses from the grid of this process."""
    InProcessGrid(ClientApp(), 1)


def aggregator(regime: str) -> Aggregator:
    return Aggregator(algorithm_of(regime, SETTINGS), 4.0, 2)


def stepped(server: Aggregator, number: int, start: float, change: float) -> float:
    """The next weight where a client of three images and one of a single image change theirs by `change` on average."""
    model = Model(np.array([start], np.float32), NOTHING, NOTHING)
    changes = ((change + 0.5, 3.0), (change - 1.5, 1.0))
    updates = [Update(np.array([start + by], np.float32), NOTHING, NOTHING, images, 1.0) for by, images in changes]
    return float(server.step(number, updates, model, np.random.default_rng(0)).weights[0])


@pytest.mark.parametrize("regime", list(EXPECTED))
def test_two_rounds_are_those_of_algorithm_2(regime: str) -> None:
    server = aggregator(regime)
    first = stepped(server, 1, 1.0, 2.0)
    second = stepped(server, 2, first, -1.0)
    assert (first, second) == pytest.approx((EXPECTED[regime].first, EXPECTED[regime].second), rel=1e-6)


@pytest.mark.parametrize("regime", list(EXPECTED))
def test_a_restarted_server_goes_on_from_its_moments(regime: str) -> None:
    server, again = aggregator(regime), aggregator(regime)
    first = stepped(server, 1, 1.0, 2.0)
    again.algorithm.remember(server.algorithm.memory())
    assert stepped(again, 2, first, -1.0) == stepped(server, 2, first, -1.0)
