"""SVRG against a float64 reference: it reduces the gradient's variance, and converges where SGD hovers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from federated.client import training as local
from federated.client.gradients import Plain, VarianceReduced
from federated.client.training import Work


class Points:
    """Batches of tensors."""

    def __init__(self, inputs: Tensor, labels: Tensor, batch: int) -> None:
        self.inputs, self.labels, self.batch = inputs, labels, batch
        self.n_train, self.n_val, self.steps_per_epoch = len(labels), len(labels), len(labels) // batch

    @property
    def train_labels(self) -> np.ndarray:
        return self.labels.numpy()

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(self.n_train))
        for start in range(0, self.steps_per_epoch * self.batch, self.batch):
            chosen = order[start : start + self.batch]
            yield self.inputs[chosen], self.labels[chosen]

    def whole(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.inputs, self.labels

    def val(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.inputs, self.labels


@pytest.fixture
def convex() -> Points:
    """Logistic regression without separation, so that a finite optimum exists."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 10, dtype=torch.float64)
    labels = (
        torch.rand(256, dtype=torch.float64) < torch.sigmoid(inputs @ torch.randn(10, dtype=torch.float64))
    ).long()
    return Points(inputs, labels, 4)


def loss_of(model: nn.Module, points: Points) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(points.inputs), points.labels))


def logistic() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(10, 2, dtype=torch.float64)


def optimum(points: Points) -> float:
    model = logistic()
    solver = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(model(points.inputs), points.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)
    return loss_of(model, points)


def gap_after(points: Points, method: str, rate: float, rounds: int = 20) -> float:
    model, best = logistic(), optimum(points)
    for number in range(1, rounds + 1):
        work = Work(round=number, seed=0, learning_rate=rate)
        reduced = partial(VarianceReduced, model, list(model.parameters()), points, number - 1, number)
        gradient = reduced if method == "svrg" else None
        local.train(model, points, work, points.steps_per_epoch, seed=0, gradient=gradient)
    return loss_of(model, points) - best


@pytest.mark.parametrize(("rate", "factor"), [(0.1, 20), (0.3, 1e6)])
def test_svrg_beats_sgd_on_a_convex_problem(convex: Points, rate: float, factor: float) -> None:
    assert gap_after(convex, "sgd", rate) > factor * gap_after(convex, "svrg", rate)


def test_svrg_reduces_the_variance_with_dropout_and_batch_norm(convex: Points) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)).double()
    parameters = list(model.parameters())
    model.train()
    reduced = VarianceReduced(model, parameters, convex, 0, seed=3)
    with torch.no_grad():  # a short way from the round's model
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    plain = Plain(model, parameters)

    def deviation(gradient: Plain) -> float:
        draws = []
        for epoch in range(10):
            for number, (inputs, labels) in enumerate(convex.train(epoch)):
                torch.manual_seed(100 * epoch + number)
                draws.append(torch.cat([g.reshape(-1) for g in gradient(inputs, labels)[0]]))
        return float(torch.stack(draws).var(dim=0).sum())

    assert deviation(reduced) < 0.1 * deviation(plain)


def test_both_gradients_of_a_step_see_the_same_mask(convex: Points) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(10, 2)).double()
    parameters = list(model.parameters())
    model.train()
    reduced = VarianceReduced(model, parameters, convex, 0, seed=3)
    inputs, labels = next(iter(convex.train(0)))
    found, _, _ = reduced(inputs, labels)  # at the anchor both cancel, and the full gradient is left
    for value, full in zip(found, reduced.full, strict=True):
        torch.testing.assert_close(value, full, rtol=0, atol=1e-15)


def test_a_bound_keeps_the_direction_and_shortens_the_step(convex: Points) -> None:
    model = logistic()
    parameters = list(model.parameters())
    inputs, labels = next(iter(convex.train(0)))
    free, held = (VarianceReduced(model, parameters, convex, 0, 3, bound)(inputs, labels)[0] for bound in (1e9, 0.01))
    flat, short = (torch.cat([g.reshape(-1) for g in gradients]) for gradients in (free, held))
    assert float(short.norm()) == pytest.approx(0.01)
    torch.testing.assert_close(short / short.norm(), flat / flat.norm())


def test_stragglers_do_a_part_of_their_steps(convex: Points) -> None:
    work = Work(round=1, seed=4, epochs=2, straggler_rate=0.5)
    steps = [local.steps_of(work, convex, partition) for partition in range(200)]
    late = [s for s in steps if s < 128]
    assert 60 < len(late) < 140
    assert min(late) >= 1


def test_evaluation_without_images_has_no_mean() -> None:
    loss, accuracy, count = local.evaluate(nn.Linear(2, 2), [])
    assert np.isnan(loss)
    assert np.isnan(accuracy)
    assert count == 0
