"""What a federation must equal: the centralized fit, a hand-made mean, and its own special cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from federated.privacy.mechanism import epsilon
from federated.settings import work_of
from federated.simulation.cell import Simulation
from federated.simulation.fit import fit, twin
from federated.transport.packing import Packing, pack
from models.recipes.context import FitContext

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
    logits = F.linear(torch.from_numpy(np.asarray(train.inputs)[:, :, 0, 0]), *start)
    gradients = torch.autograd.grad(F.cross_entropy(logits, torch.from_numpy(train.labels)), start)
    fit(context)
    for after, before, gradient in zip(context.module.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(after, before - 0.1 * gradient, rtol=0, atol=1e-6)


def test_fedavg_is_a_weighted_mean_made_by_hand(make_context: Make) -> None:
    context = make_context("fedavg", rounds=1, partition="quantity", alpha=0.4)
    simulation = Simulation.of(context)
    start = {"weights": pack(simulation.packing.trainable), "buffers": pack(simulation.packing.buffers)}
    work = work_of(simulation.algorithm, context.fit_seed)
    sizes, weights, buffers = [], [], []
    for partition in range(5):
        sent, metrics = simulation.client(partition).fit(replace(work, round=1), start)
        sizes.append(metrics["num-examples"])
        weights.append(sent["weights"].astype(np.float64))
        buffers.append(sent["buffers"].astype(np.float64))
    assert len(set(sizes)) > 1
    trained = make_context("fedavg", rounds=1, partition="quantity", alpha=0.4)
    fit(trained)
    packing = Packing(trained.module)
    np.testing.assert_allclose(pack(packing.trainable), np.average(weights, axis=0, weights=sizes), atol=1e-6)
    np.testing.assert_allclose(pack(packing.buffers), np.average(buffers, axis=0, weights=sizes), atol=1e-6)


@pytest.mark.parametrize("privacy", ["central", "local"])
def test_noise_is_told_repeats_and_spares_the_buffers(make_context: Make, privacy: str) -> None:
    fields = {
        "privacy": privacy,
        "noise_multiplier": 2.0,
        "clip_norm": 0.5,
        "batch_norm": "frozen",
        "participation": 0.6,
    }
    first, second = make_context("fedavg", **fields), make_context("fedavg", **fields)
    before = [b.clone() for n, b in first.module.named_buffers() if "tracked" not in n]
    outcome = fit(first)
    assert_same_bits(fitted(second), {n: t for n, t in first.module.state_dict().items() if "tracked" not in n})
    after = [b for n, b in first.module.named_buffers() if "tracked" not in n]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # Under local noise a replaced client moves its update by twice the norm, and it is seen who sends: the three of
    # five that are asked in each of three rounds send twice at most here.
    sent = Counter(name for row in outcome.history for name in row["answered"].split(","))
    assert max(sent.values()) == 2
    multiplier, sampling, releases = (2.0, 0.6, 3) if privacy == "central" else (1.0, 1.0, 2)
    assert outcome.columns["epsilon"] == pytest.approx(epsilon(multiplier, sampling, releases, 1e-5))
    assert any("from the run's seed, in place of a secret draw" in note for note in outcome.notes)


def test_a_thousand_clients_leave_their_memory_in_files(make_context: Make) -> None:
    context = make_context("scaffold", kind="linear", images=2000, clients=1000, participation=0.05, rounds=2)
    outcome = fit(context)
    assert [row["clients_asked"] for row in outcome.history] == [50, 50]
    assert outcome.columns["clients"] == 1000


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
    assert outcome.columns["val_mean_client_accuracy"] > 0.6
    assert np.isfinite(outcome.columns["up_mb"])
