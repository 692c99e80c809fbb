"""Peak memory is of the network's own steps, whatever ran before it in the process."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.measure.memory import peak_memory_mb
from bench.measure.timing import timings

CPU = torch.device("cpu")


def linear(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, width), nn.ReLU(), nn.Linear(width, 2))


def peak(width: int) -> float:
    found = timings(linear(width), torch.rand(2, 3, 8, 8), 2, batches=1, warmup=1)
    return float(found["peak_memory_mb"])


def test_the_order_of_two_networks_does_not_change_their_metrics() -> None:
    """The larger holds tens of MB, which the smaller one would be charged with, or find free, after it."""
    small_first = peak(64), peak(16384)
    large_first = peak(16384), peak(64)
    assert small_first == pytest.approx(large_first[::-1], rel=0.02)
    assert small_first[0] < 1 < small_first[1]


@pytest.mark.parametrize(("momentum", "copies"), [(0.0, 2), (0.9, 3)])
def test_a_training_step_holds_weights_gradients_and_momentum(momentum: float, copies: int) -> None:
    """Of 192 * 16384 + 16384 + 2 * 16384 + 2 numbers of four bytes; the activations of two images are small."""
    found = timings(
        linear(16384),
        torch.rand(2, 3, 8, 8),
        2,
        batches=1,
        warmup=0,
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1, momentum, foreach=False),
    )
    weights = 4 * (195 * 16384 + 2) / 2**20
    assert found["peak_memory_mb"] == pytest.approx(copies * weights, rel=0.03)


def test_it_is_the_highest_level_and_not_the_sum() -> None:
    def work() -> None:
        for _ in range(3):
            torch.ones(2**18)  # 1 MiB, free again at once
        torch.ones(2**19)

    held = torch.ones(2**20)
    assert peak_memory_mb(CPU, work) == pytest.approx(2.0, rel=0.01)
    assert len(held) == 2**20


def test_beside_a_profiler_there_is_no_metric() -> None:
    with torch.autograd.profiler.profile():
        assert peak_memory_mb(CPU, lambda: None) is None
