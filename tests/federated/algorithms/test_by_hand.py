"""The classics' updates on numbers worked by hand, and the table of where every algorithm's are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.clientapp import ClientApp
from torch import nn

from bench.core.config import Federation
from federated.algorithms.registry import ALGORITHMS, algorithm_of
from federated.client.gradients import VarianceReduced
from federated.client.local import LocalRound
from federated.client.training import Work
from federated.server.aggregate import Aggregator
from federated.server.vectors import Model, Update
from federated.simulation.cell import Simulation
from federated.simulation.inprocess import InProcessGrid
from federated.transport.packing import Packing, pack
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
NOTHING = np.empty(0, np.float32)
# Where each algorithm's numbers are worked by hand; another algorithm is a line here or fails.
BY_HAND = {
    **dict.fromkeys(("fedadam", "fedyogi", "fedadagrad"), "test_two_rounds_are_those_of_algorithm_2"),
    "feddyn": "test_feddyn_s_server",
    "fedlc": "test_fedlc_s_loss",
    "moon": "test_moon_s_term",
    "fedavg-cosine": "test_the_cosine_s_rates",
    "fedexp": "test_fedexp_s_step",
    "fedper": "test_fedper_keeps_the_last_layers",
    "fedrep": "test_fedrep_takes_turns",
    "ditto": "test_ditto_s_own_model_takes_the_pulled_steps",
    **dict.fromkeys(("fedavg", "fedmedian", "fedtrimmedavg", "krum"), "test_rules_of_the_server"),
    "fedprox": "test_fedprox_s_pull",
    "fedavgm": "test_fedavgm_s_momentum",
    "scaffold": "test_scaffold_s_variates",
    "fednova": "test_fednova_s_lengths",
    "fedavg-svrg": "test_svrg_s_gradient",
    "fedbn": "test_fedbn_keeps_its_batch_norm",
}


@pytest.fixture(autouse=True)
def _addresses() -> None:
    """Flower's messages take their addresses from the grid of this process."""
    InProcessGrid(ClientApp(), 1)


def test_every_algorithm_is_one_file_with_numbers_worked_by_hand() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    own = {name: inspect.getfile(ALGORITHMS.get(name)) for name in ALGORITHMS.names()}
    shipped = {name: file for name, file in own.items() if "federated/algorithms" in file}
    assert set(BY_HAND) == set(shipped)
    assert all(f"def {name}(" in tests for name in BY_HAND.values())
    assert len(set(shipped.values())) == len(shipped)


def stepped(name: str, start: float, updates: list[tuple[float, float, float]], **fields: Any) -> float:
    """The next weight from (weight, images, steps) of each client."""
    server = Aggregator(algorithm_of(name, Federation(**fields)), 4.0, 2)
    replies = [Update(np.array([w], np.float32), NOTHING, NOTHING, images, steps) for w, images, steps in updates]
    model = Model(np.array([start], np.float32), NOTHING, NOTHING)
    return float(server.step(1, replies, model, np.random.default_rng(0)).weights[0])


@pytest.mark.parametrize(
    ("name", "weights", "expected", "fields"),
    [
        ("fedavg", [(1, 3), (5, 1)], 2.0, {}),  # (3 * 1 + 1 * 5) / 4
        ("fedmedian", [(1, 9), (2, 1), (9, 1)], 2.0, {}),
        ("fedtrimmedavg", [(0, 1), (2, 1), (4, 1), (100, 1)], 3.0, {"trimmed": 0.25}),  # 0 and 100 are cut
        # Two neighbours each: 0 -> 1 + 4, 1 -> 1 + 1, 2 -> 1 + 2.25, 3.5 -> 2.25 + 6.25.
        ("krum", [(0, 1), (1, 1), (2, 1), (3.5, 1), (50, 1)], 1.0, {"malicious": 1}),
    ],
)
def test_rules_of_the_server(name: str, weights: Any, expected: float, fields: dict[str, Any]) -> None:
    assert stepped(name, 0.0, [(w, images, 1.0) for w, images in weights], **fields) == pytest.approx(expected)


def test_fednova_s_lengths() -> None:
    """From 0, alike in images: 1 after one step, 6 after three. tau_eff = 2: (2 / 1 * 1 + 2 / 3 * 6) / 2 = 3."""
    assert stepped("fednova", 0.0, [(1.0, 1.0, 1.0), (6.0, 1.0, 3.0)]) == pytest.approx(3.0)


def test_fedavgm_s_momentum() -> None:
    """beta 0.5: from 10 to the mean 8, v = 2; then the mean 7 from 8: v = 0.5 * 2 + 1 = 2, and 8 - 2 = 6."""
    server = Aggregator(algorithm_of("fedavgm", Federation(server_momentum=0.5)), 1.0, 1)
    at = np.array([10], np.float32)
    for number, mean, expected in ((1, 8.0, 8.0), (2, 7.0, 6.0)):
        reply = Update(np.array([mean], np.float32), NOTHING, NOTHING, 1.0, 1.0)
        at = server.step(number, [reply], Model(at, NOTHING, NOTHING), np.random.default_rng(0)).weights
        assert at == pytest.approx([expected])


def one_weight(value: float, memory: dict[str, Any] | None = None, shared: Any = NOTHING) -> LocalRound:
    """A round of a client whose model is one weight, in the round's model `value`."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    packing, work = Packing(module), Work(1, 0, learning_rate=0.1)
    known = pack(packing.trainable)
    return LocalRound(module, packing, None, work, known, shared, memory or {}, 0, 4)  # type: ignore[arg-type]


def corrected(local: LocalRound, name: str, at: float, **fields: Any) -> float:
    """What becomes of a gradient of 1 at a weight."""
    correct = algorithm_of(name, Federation(**fields)).correction(local)
    assert correct is not None
    nn.init.constant_(local.module.weight, at)  # type: ignore[arg-type]
    gradients = [torch.ones(1, 1)]
    correct(gradients)
    return float(gradients[0])


def test_fedprox_s_pull() -> None:
    """At 3 from w_t = 1 with mu = 0.5: 1 + 0.5 * 2."""
    assert corrected(one_weight(1.0), "fedprox", 3.0, proximal_mu=0.5) == pytest.approx(2.0)


def test_scaffold_s_variates() -> None:
    """c = 0.3 and c_k = 0.1: 1 + 0.2. From 1 to 0.6 in 4 steps of 0.1: c_k = 0.1 - 0.3 + 0.4 / 0.4 = 0.8."""
    vector = np.array([0.3], np.float32)
    local = one_weight(1.0, {"control": np.array([0.1], np.float32)}, vector)
    assert corrected(local, "scaffold", 1.0) == pytest.approx(1.2)
    algorithm = algorithm_of("scaffold", Federation())
    sent, remembered = algorithm.finish(local, np.array([0.6], np.float32), 4)
    assert remembered["control"] == pytest.approx([0.8])
    # A client with 2 of 8 images moves the server's by a quarter of its change: 0.3 + 0.7 / 4.
    reply = Update(NOTHING, NOTHING, sent, 2.0, 4.0)
    assert algorithm.next_shared([reply], Model(NOTHING, NOTHING, vector), 8.0) == pytest.approx([0.475])


def test_svrg_s_gradient() -> None:
    """Two logits w x, images 1 and 3 of class 0. At w_t = 0: g = (-0.5 - 1.5) / 2 = -1 for the first weight.

    Image 1 at w = (ln 3, 0): p = 3/4, g_i = -0.25, at w_t -0.5: -0.25 + 0.5 - 1 = -0.75.
    """

    class Data:
        def train(self, _: int) -> Any:
            return [(torch.tensor([[1.0]]), torch.tensor([0]))]

        def whole(self, _: int) -> Any:
            return [(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))]

    module = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(module.weight)
    compute = VarianceReduced(module, list(module.parameters()), Data(), 0, 0)  # type: ignore[arg-type]
    with torch.no_grad():
        module.weight[0] = math.log(3)
    gradients, _, _ = compute(*Data().train(0)[0])
    assert gradients[0].flatten().tolist() == pytest.approx([-0.75, 0.75], rel=1e-6)


def test_fedbn_keeps_its_batch_norm(make_context: Make) -> None:
    """Linear 6 -> 8 (56) and 8 -> 3 (27) travel; the BatchNorm's 16 parameters and 16 statistics stay."""
    assert Simulation.of(make_context("fedbn")).packing.sizes() == (83, 0, 32)
