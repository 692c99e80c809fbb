"""Interleaved rounds: their order, when they end, and the interval of a median."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.measure import rounds
from bench.measure.rounds import Effort, Subject, enough, in_rounds, median_interval

CPU = torch.device("cpu")


def test_subjects_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long step is taken once a round, so that a drift of the machine meets both alike."""
    order: list[str] = []
    monkeypatch.setattr(rounds, "clock_of", lambda device: lambda step: step() or 50.0)
    subjects = [Subject(name, lambda name=name: order.append(name)) for name in "ab"]
    found = in_rounds(subjects, CPU, Effort(3, 3, 0, 0.0))
    assert "".join(order) == "ababab"
    assert found.samples == {"a": [50.0] * 3, "b": [50.0] * 3}


def test_short_steps_are_several_a_round_and_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of ten steps of 0.5 ms, the first of which fills the caches; slow rounds are slow throughout."""
    taken: list[str] = []
    times = {"short": 0.5, "long": 40.0}
    drift = lambda: 1 + (len(taken) > 60)  # noqa: E731
    monkeypatch.setattr(rounds, "clock_of", lambda device: lambda step: step() or times[taken[-1]] * drift())
    subjects = [Subject(name, lambda name=name: taken.append(name)) for name in times]
    found = in_rounds(subjects, CPU, Effort(10, 10, 1, 0.0))
    assert {name: len(samples) for name, samples in found.samples.items()} == {"short": 10, "long": 10}
    assert set(found.samples["short"]) == {0.5, 1.0}
    assert median_interval(found.samples["short"]) == (0.5, 1.0)
    assert taken.count("short") == 1 + 10 * (1 + rounds.MOST_REPEATS)


def test_the_spread_decides_how_many_samples_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = {"steady": iter([100.0] * 99), "noisy": iter(np.random.default_rng(0).uniform(50, 150, 99))}
    current: list[str] = []
    monkeypatch.setattr(rounds, "clock_of", lambda device: lambda step: step() or float(next(draws[current[-1]])))
    subjects = [Subject(name, lambda name=name: current.append(name)) for name in draws]
    found = in_rounds(subjects, CPU, Effort(5, 30, 0, 0.02))
    assert {name: len(samples) for name, samples in found.samples.items()} == {"steady": 5, "noisy": 30}


def test_the_intervals_of_medians_cover_the_true_one() -> None:
    """Of 400 samples of 30 exponential times, whose median is ln 2; 95 % but for three standard errors of it."""
    generator = np.random.default_rng(1)
    bounds = [median_interval(generator.exponential(size=30).tolist()) for _ in range(400)]
    covered = np.mean([low <= np.log(2) <= high for low, high in bounds])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_enough_is_judged_by_least_spread_and_most() -> None:
    wide = [1.0, 2.0] * 5
    assert not enough([1.0] * 4, Effort(5, 10, 0, 0.1))
    assert enough([1.0] * 5, Effort(5, 10, 0, 0.1))
    assert not enough(wide, Effort(5, 11, 0, 0.1))
    assert enough(wide, Effort(5, 10, 0, 0.1))


def test_the_threads_of_a_subject_are_its_own() -> None:
    before, seen = torch.get_num_threads(), []
    in_rounds([Subject("one", lambda: seen.append(torch.get_num_threads()), threads=1)], CPU, Effort(1, 1, 0, 0.0))
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_what_other_processes_take_is_told_apart_from_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores for ten seconds: 12 of 20 core seconds were busy, 7 of them our own."""
    readings = {"wall": iter([0.0, 10.0]), "all": iter([100.0, 112.0]), "own": iter([1.0, 8.0])}
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: next(readings["wall"]))
    monkeypatch.setattr(rounds, "_busy_seconds", lambda: next(readings["all"]))
    monkeypatch.setattr(rounds, "_own_seconds", lambda: next(readings["own"]))
    monkeypatch.setattr(rounds.psutil, "cpu_count", lambda: 2)
    assert rounds.OtherProcesses().share() == pytest.approx(5 / 20)
