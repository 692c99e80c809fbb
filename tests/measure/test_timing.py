"""Timings: what they hold, and that the caller's network does not notice them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.measure import seeding
from bench.measure.timing import timings


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 3))


class Slow(nn.Module):
    """Sleeps a known time in every forward pass, longer each time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.calls = 0

    def forward(self, batch: Tensor) -> Tensor:
        self.calls += 1
        time.sleep(0.001 * self.calls)
        out: Tensor = self.layer(batch)
        return out


def test_median_and_p95_come_from_the_measured_batches_only() -> None:
    network = Slow()
    found = timings(network, torch.zeros(2, 4), 2, train=False, batches=20, warmup=5)
    # After five passes a round is one that fills the caches and two of 5 ms and more that count, by their median.
    rounds = np.array([5 + 3 * number + 2.5 for number in range(20)])
    assert found["infer_batch_ms"] >= np.median(rounds)
    assert found["infer_batch_ms"] < np.median(rounds) + 20
    assert found["infer_batch_ms_p95"] >= np.percentile(rounds, 95)
    assert found["train_batch_ms"] is None
    assert network.calls == 0


def test_the_callers_network_gradients_and_random_state_stay_as_they_were() -> None:
    network, batch = small(), torch.rand(4, 3, 8, 8)
    network[0].eval()
    network(batch).sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    timings(network, batch, 3, batches=2, warmup=1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert not network[0].training
    now = [parameter.grad for parameter in network.parameters()]
    assert all(torch.equal(old, new) for old, new in zip(gradients, now, strict=True) if new is not None)


def test_the_row_says_where_and_how_it_was_measured() -> None:
    found: dict[str, Any] = timings(small(), torch.rand(4, 3, 8, 8), 3, batches=3, warmup=0)
    assert found["device_kind"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert (found["batch_size"], found["batches"], found["warmup"], found["timed_precision"]) == (4, 3, 0, "32")
    assert found["peak_memory_mb"] > 0
    assert found["energy_j"] is None
    assert 0 < found["train_batch_ms"] <= found["train_batch_ms_p95"]
    assert 0 < found["infer_batch_ms"] <= found["infer_batch_ms_p95"]


def test_frozen_parameters_are_not_trained() -> None:
    """The optimizer is handed the head alone when the backbone is frozen."""
    network = small()
    network[0].requires_grad_(False)
    handed: list[int] = []

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        handed.append(len(parameters))
        return torch.optim.SGD(parameters, lr=0.1)

    timings(network, torch.rand(4, 3, 8, 8), 3, batches=1, warmup=0, optimizer=make)
    assert set(handed) == {4}


@pytest.mark.parametrize("bad", [{"batches": 0}, {"precision": "8"}])
def test_bad_settings_name_themselves(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="batches >= 1 and precision"):
        timings(small(), torch.rand(1, 3, 8, 8), 3, **bad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_timed_by_its_own_events() -> None:
    found = timings(small().cuda(), torch.rand(4, 3, 8, 8, device="cuda"), 3, batches=30, warmup=3, precision="bf16")
    assert found["device_kind"] == "cuda"
    assert 0 < found["peak_memory_mb"] < 100
    assert 0 < found["train_batch_ms"] < 1000


@pytest.mark.parametrize("accelerator", [False, True])
def test_seeding_gives_the_draws_of_manual_seed(accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "_has_accelerator", lambda: accelerator)
    torch.manual_seed(7)
    expected = torch.rand(5), torch.randn(3)
    torch.manual_seed(8)
    seeding.seed_torch(7)
    assert torch.equal(torch.rand(5), expected[0])
    assert torch.equal(torch.randn(3), expected[1])
