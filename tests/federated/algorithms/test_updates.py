"""Updates of the algorithms on numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from bench.core.config import Federation
from federated.algorithms.base import Algorithm
from federated.algorithms.registry import algorithm_of
from federated.client.calibrated import Calibrated, margins
from federated.client.contrastive import contrast
from federated.client.local import LocalRound
from federated.client.training import Work
from federated.server.aggregate import Aggregator
from federated.server.vectors import Model, Update
from federated.simulation.cell import Simulation
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from federated.transport.packing import Packing, pack
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
NOTHING = np.empty(0, np.float32)


@pytest.fixture(autouse=True)
def _addresses() -> None:
    """Flower's messages take their addresses from the grid of this process."""
    InProcessGrid(ClientApp(), 1)


def made(name: str, **options: float) -> Algorithm:
    return algorithm_of(name, Federation(options={name: options}))


def vector(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def step(server: Aggregator, number: int, start: np.ndarray, updates: list[tuple[np.ndarray, float]]) -> np.ndarray:
    replies = [Update(weights, NOTHING, NOTHING, images, 1.0) for weights, images in updates]
    return server.step(number, replies, Model(start, NOTHING, NOTHING), np.random.default_rng(0)).weights


def a_round(module: nn.Module, memory: dict[str, Any] | None = None, labels: Any = None, steps: int = 4) -> LocalRound:
    packing = Packing(module)

    class Data:
        train_labels = np.asarray(labels if labels is not None else [0])

    known = pack(packing.trainable)
    return LocalRound(module, packing, Data(), Work(1, 0), known, NOTHING, memory or {}, 0, steps)  # type: ignore[arg-type]


def weight(value: float) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_feddyn_s_server() -> None:
    """alpha 0.5, four clients. Round 1 from 1: 3 and 2 answer, mean 2.5, each counting once; h = -0.5 / 4 * (2 + 1).

    w = 2.5 + 0.375 / 0.5 = 3.25. Round 2: 1.25 answers alone; h = -0.375 - 0.5 / 4 * (-2) = -0.125, w = 1.25 + 0.25.
    """
    server, again = (Aggregator(made("feddyn", alpha=0.5), 8.0, 4) for _ in range(2))
    first = step(server, 1, vector(1), [(vector(3), 3.0), (vector(2), 1.0)])
    assert first == pytest.approx([3.25])
    again.algorithm.remember(server.algorithm.memory())
    for one in (server, again):
        assert step(one, 2, first, [(vector(1.25), 3.0)]) == pytest.approx([1.5])


def test_feddyn_s_client() -> None:
    """At w = 2 from w_t = 1 with l = 0.2 and alpha 0.5 a gradient of 1 becomes 1 + 0.5 - 0.2; l becomes 0.2 - 0.5."""
    algorithm, module = made("feddyn", alpha=0.5), weight(1.0)
    local = a_round(module, {"linear": vector(0.2)})
    correct = algorithm.correction(local)
    assert correct is not None
    nn.init.constant_(module.weight, 2.0)
    gradients = [torch.ones(1, 1)]
    correct(gradients)
    assert float(gradients[0]) == pytest.approx(1.3)
    sent, remembered = algorithm.finish(local, vector(2), 4)
    assert len(sent) == 0
    assert remembered["linear"] == pytest.approx([-0.3])


def test_fedexp_s_step() -> None:
    """Changes (4, 0) and (-2, 2): mean (1, 1); eta = (16 + 8) / 2 / (2 * (2 + 1)) = 2 with epsilon 1."""
    server = Aggregator(made("fedexp", epsilon=1.0), 2.0, 2)
    start = vector(10, 10)
    assert step(server, 1, start, [(vector(14, 10), 1.0), (vector(8, 12), 1.0)]) == pytest.approx([12, 12])
    # Clients that agree: eta = 1 / 2 before the bound of 1.
    assert step(server, 2, start, [(vector(11, 12), 1.0), (vector(11, 12), 1.0)]) == pytest.approx([11, 12])


def test_moon_s_term() -> None:
    """s(z, z_t) = 1, s(z, z_k) = 0, T = 0.5: -log(e^2 / (e^2 + 1)) = log(1 + e^-2)."""
    here, shared, previous = torch.tensor([[2.0, 0]]), torch.tensor([[1.0, 0]]), torch.tensor([[0, 3.0]])
    assert float(contrast(here, shared, previous, 0.5)) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    assert float(contrast(here, shared, shared, 0.5)) == pytest.approx(math.log(2), rel=1e-6)


def test_moon_s_first_round_is_fedavg_and_its_second_is_not(make_context: Make) -> None:
    for rounds, same in ((1, True), (2, False)):
        ours, plain = (make_context(name, rounds=rounds) for name in ("moon", "fedavg"))
        fit(ours), fit(plain)
        pairs = zip(ours.module.parameters(), plain.module.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same


def test_fedlc_s_loss() -> None:
    """16, 81 and 0 images, tau 3: margins 3 / 2, 3 / 3 and infinity; logits (1, 0, 5) become (-1/2, -1, out)."""
    assert margins(torch.tensor([16, 81, 0]), 3.0).tolist() == pytest.approx([1.5, 1.0, math.inf])

    class Fixed(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

    loss, logits = Calibrated(a_round(Fixed(), labels=[0] * 16 + [1] * 81), 3.0).forward(
        torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([0])
    )
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-6)
    assert logits.tolist() == [[1.0, 0.0, 5.0]]


def test_the_cosine_s_rates(make_context: Make) -> None:
    """Floor 0.2 over four rounds: 0.1 * (0.2 + 0.8 * (1 + cos) / 2) with cos 1, sqrt(1/2), 0, -sqrt(1/2)."""
    context = make_context("fedavg-cosine", rounds=4, options={"fedavg-cosine": {"floor": 0.2}})
    half = math.sqrt(0.5)
    expected = [0.1, 0.1 * (0.2 + 0.4 * (1 + half)), 0.06, 0.1 * (0.2 + 0.4 * (1 - half))]
    assert [row["learning_rate"] for row in fit(context).history] == pytest.approx(expected)


def test_fedper_keeps_the_last_layers(make_context: Make) -> None:
    """Linear 6 -> 8 (56), BatchNorm (16, and 16 running), linear 8 -> 3 (27)."""
    one = Simulation.of(make_context("fedper")).packing
    two = Simulation.of(make_context("fedper", options={"fedper": {"layers": 2}})).packing
    assert one.sizes() == (72, 16, 27)
    assert two.sizes() == (56, 0, 59)


def test_fedrep_takes_turns(make_context: Make) -> None:
    """Of four steps at a share of 0.25 the first is the last layer's, the other three are the others'."""
    simulation = Simulation.of(make_context("fedrep", options={"fedrep": {"head_share": 0.25}}))
    module, packing = simulation.context.module, simulation.packing
    local = LocalRound(module, packing, None, Work(1, 0), NOTHING, NOTHING, {}, 0, 4)  # type: ignore[arg-type]
    fix = simulation.algorithm.correction(local)
    assert fix is not None
    moved = []
    for _ in range(4):
        gradients = [torch.ones_like(p) for p in local.parameters]
        fix(gradients)
        moved.append([bool(g.any()) for g in gradients])
    assert moved == [[False] * 4 + [True] * 2, *[[True] * 4 + [False] * 2] * 3]


def test_ditto_s_own_model_takes_the_pulled_steps(make_context: Make) -> None:
    """Round 2, one step of a linear model: v - 0.1 (g(v) + lambda (v - w_t)), v the trained one of round 1."""
    context = make_context("ditto", kind="linear", local_steps=1, options={"ditto": {"weight": 2.0}}, clients=1)
    simulation = Simulation.of(context)
    client, packing = simulation.client(0), simulation.packing
    arrays = {"weights": pack(packing.trainable), "buffers": NOTHING}
    work = Work(1, 22, steps=1, algorithm="ditto", settings=simulation.algorithm.travelling_settings())
    sent, _ = client.fit(work, arrays)
    own = client.personal(1)
    np.testing.assert_array_equal(own, sent["weights"])  # v began as w_t, where the pull is 0
    shared = sent["weights"] + np.float32(0.5)
    second = Work(2, 22, steps=1, algorithm="ditto", settings=work.settings)
    client.fit(second, {"weights": shared, "buffers": NOTHING})
    gradient = gradient_at(simulation, own)
    expected = own - 0.1 * (gradient + 2.0 * (own - shared))
    np.testing.assert_allclose(client.personal(2), expected, atol=1e-6)


def gradient_at(simulation: Simulation, weights: np.ndarray) -> np.ndarray:
    """The gradient of the second epoch's first batch, by autograd alone."""
    inputs, labels = next(iter(simulation.client(0).data.train(1)))
    matrix, bias = torch.from_numpy(weights[:18].reshape(3, 6)), torch.from_numpy(weights[18:])
    leaves = [matrix.clone().requires_grad_(), bias.clone().requires_grad_()]
    loss = nn.functional.cross_entropy(inputs.flatten(1) @ leaves[0].T + leaves[1], labels)
    return np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, leaves)])
