"""What a federation must equal: the centralized fit, a hand-made mean, and its own special cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from federated.simulate import fit, twin
from models.training import FitContext

Make = Callable[..., FitContext]


def fitted(context: FitContext) -> dict[str, torch.Tensor]:
    fit(context)
    return {name: tensor.clone() for name, tensor in context.module.state_dict().items() if "tracked" not in name}


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_one_client_is_the_centralized_fit_bit_for_bit(make_context: Make) -> None:
    alone, central = make_context("fedavg", clients=1), make_context("twin", clients=1)
    federated = fit(alone)
    centralized = twin(central)
    assert_same_bits(
        {k: v for k, v in alone.module.state_dict().items() if "tracked" not in k},
        {k: v for k, v in central.module.state_dict().items() if "tracked" not in k},
    )
    for name in ("train_loss", "train_accuracy", "val_accuracy"):
        expected = [row[name] for row in centralized.history]
        assert [row[name] for row in federated.history] == pytest.approx(expected, rel=1e-6), name


def test_full_batches_of_many_clients_make_one_centralized_step(make_context: Make) -> None:
    context = make_context("fedavg", kind="linear", clients=4, rounds=1, local_steps=1, protocol={"batch_size": 64})
    start = [p.detach().clone().requires_grad_() for p in context.module.parameters()]
    train = context.data.train
    logits = F.linear(torch.from_numpy(train.inputs[:, :, 0, 0]), *start)
    gradients = torch.autograd.grad(F.cross_entropy(logits, torch.from_numpy(train.labels)), start)
    fit(context)
    for after, before, gradient in zip(context.module.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(after, before - 0.1 * gradient, rtol=0, atol=1e-6)


def test_proximal_without_pull_is_fedavg(make_context: Make) -> None:
    assert_same_bits(fitted(make_context("fedprox", proximal_mu=0.0)), fitted(make_context("fedavg")))


def test_proximal_pull_keeps_the_clients_nearer(make_context: Make) -> None:
    free, held = (fit(make_context(name, local_epochs=4, proximal_mu=5.0)) for name in ("fedavg", "fedprox"))
    assert held.history[0]["drift"] < 0.9 * free.history[0]["drift"]


def test_scaffold_begins_with_zero_variates_as_fedavg(make_context: Make) -> None:
    assert_same_bits(fitted(make_context("scaffold", rounds=1)), fitted(make_context("fedavg", rounds=1)))


def test_scaffold_differs_once_its_variates_are_there(make_context: Make) -> None:
    first, second = fitted(make_context("scaffold", rounds=3)), fitted(make_context("fedavg", rounds=3))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_fednova_of_equal_steps_is_fedavg(make_context: Make) -> None:
    a, b = (fitted(make_context(name, local_steps=3)) for name in ("fednova", "fedavg"))
    assert_same_bits(a, b)


def test_all_of_top_k_is_exact(make_context: Make) -> None:
    everything = make_context("fedavg", compression="topk", compression_ratio=1.0)
    assert_same_bits(fitted(everything), fitted(make_context("fedavg")))


def test_no_noise_and_no_clipping_is_fedavg(make_context: Make) -> None:
    for privacy in ("central", "local"):
        private = make_context("fedavg", privacy=privacy, noise_multiplier=0.0, clip_norm=None)
        assert_same_bits(fitted(private), fitted(make_context("fedavg")))


def test_the_same_seeds_give_the_same_bits(make_context: Make) -> None:
    fields = {"participation": 0.6, "dropout_rate": 0.2, "straggler_rate": 0.5, "compression": "int8"}
    assert_same_bits(fitted(make_context("fedavg-svrg", **fields)), fitted(make_context("fedavg-svrg", **fields)))


def test_server_momentum_zero_is_fedavg(make_context: Make) -> None:
    assert_same_bits(fitted(make_context("fedavgm", server_momentum=0.0)), fitted(make_context("fedavg")))


def test_more_than_one_client_learns(make_context: Make) -> None:
    outcome = fit(make_context("fedavg", images=200, protocol={"epochs": 12}))
    assert outcome.columns["mean_client_accuracy"] > 0.6
    assert np.isfinite(outcome.columns["up_mb"])
