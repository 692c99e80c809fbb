"""Clipping, noise and the accountant, the last against formulas of its own."""

from __future__ import annotations

import math
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import binom, chisquare, norm

from bench.core.config import Federation, load_protocol
from bench.core.errors import UserError
from federated.algorithms.registry import algorithm_of
from federated.client.training import Work
from federated.privacy import mechanism as privacy
from federated.server.aggregate import Aggregator, CentralPrivacy
from federated.server.rounds import Rounds
from federated.server.vectors import Model, Update
from federated.settings import privacy_record, privacy_statement, releases_of, round_settings_of, spent
from federated.simulation.inprocess import InProcessGrid


def test_clipping_bounds_the_update_and_leaves_a_short_one_alone() -> None:
    known = np.array([1.0, 1.0], np.float32)
    long = known + np.array([3.0, 4.0], np.float32)
    np.testing.assert_allclose(privacy.clip(long, known, 1.0), [1.6, 1.8], rtol=1e-6)
    assert privacy.clip(long, known, 5.0) is long
    assert privacy.clip(long, known, math.inf) is long
    assert privacy.clip(known, known, 1.0) is known  # an update of zero divides by nothing


def test_noise_has_the_deviation_asked_for() -> None:
    start = np.zeros(200_000, np.float32)
    noisy = privacy.noisy(start, 0.5, privacy.noise_stream(3))
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.01)
    assert privacy.noisy(start, 0.0, privacy.noise_stream(3)) is start


def test_the_noise_on_a_weighted_mean_covers_its_largest_client() -> None:
    central = CentralPrivacy(clip_norm=2.0, noise_multiplier=1.5, expected=100, largest=40)
    assert central.deviation() == pytest.approx(1.5 * 2.0 * 0.4)


@pytest.mark.parametrize("examples", [10.0, 40.0, 400.0])
def test_no_client_moves_the_mean_by_more_than_the_noise_reckons_with(examples: float) -> None:
    """A site that joined later, or overstates its images, would otherwise weigh more than the largest at the start."""
    central = CentralPrivacy(clip_norm=2.0, noise_multiplier=0.0, expected=100, largest=40)
    model, nothing = np.zeros(3, np.float32), np.empty(0, np.float32)
    InProcessGrid(ClientApp(), 1)  # Flower's messages want to know who makes them
    aggregator = Aggregator(algorithm_of("fedavg", Federation()), 100, 5, central)
    update = Update(np.full(3, 9, np.float32), nothing, nothing, examples, 1.0)
    moved = aggregator.step(1, [update], Model(model, nothing, nothing), privacy.noise_stream(0)).weights
    weighted = float(np.linalg.norm(moved)) * examples / central.expected
    assert weighted == pytest.approx(min(examples, 40) / 100 * 2.0, rel=1e-5)


def analytic_gaussian(multiplier: float, delta: float) -> float:
    """Epsilon of one Gaussian release, exactly (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        half, whole = 1 / (2 * multiplier), epsilon * multiplier
        return float(norm.cdf(half - whole) - math.exp(epsilon) * norm.cdf(-half - whole) - delta)

    return float(brentq(excess, 0, 200, xtol=1e-10))


def test_a_replaced_client_moves_its_clipped_update_by_twice_the_norm() -> None:
    known, norm_ = np.zeros(3, np.float32), 0.5
    one, other = (privacy.clip(sign * np.full(3, 9, np.float32), known, norm_) for sign in (1, -1))
    assert float(np.linalg.norm(one - other)) == pytest.approx(2 * norm_)


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (2.0, 10), (8.0, 1)])
def test_epsilon_of_local_noise_is_the_analytic_one_of_a_sensitivity_of_twice_the_norm(
    multiplier: float, rounds: int
) -> None:
    """Noise of z times the norm is noise of z / 2 times what replacing a client's data can do to its update."""
    expected = analytic_gaussian(multiplier / 2 / math.sqrt(rounds), 1e-5)
    federation = Federation(privacy="local", noise_multiplier=multiplier, participation=0.5)
    assert spent(federation, rounds) == pytest.approx(expected, abs=1e-3)


def test_one_round_of_local_noise_at_multiplier_one() -> None:
    assert spent(Federation(privacy="local", noise_multiplier=1.0), 1) == pytest.approx(9.997, abs=1e-3)


def test_epsilon_of_central_noise_is_that_of_adding_or_removing_a_client() -> None:
    whole = Federation(privacy="central", noise_multiplier=1.0)
    assert spent(whole, 1) == pytest.approx(analytic_gaussian(1.0, 1e-5), abs=1e-3)
    sampled = whole.model_copy(update={"participation": 0.5})
    assert spent(sampled, 1) == pytest.approx(sampled_gaussian(1.0, 0.5, 1e-5), abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "share", "words"),
    [
        (
            "local",
            0.5,
            r"replace one client.*multiplier 1; epsilon of the client that was asked most often; noise from",
        ),
        ("central", 1.0, r"add or remove one client.*multiplier 1; noise from"),
        ("central", 0.5, r"add or remove one client.*chance 0.5 a round; noise and choice of clients from"),
    ],
)
def test_the_statement_names_adjacency_sampling_and_where_the_randomness_comes_from(
    kind: Any, share: float, words: str
) -> None:
    federation = Federation(privacy=kind, participation=share)
    assert re.search(
        f"{words} the run's seed, in place of a secret draw", privacy_statement(federation, simulated=True)
    )
    record = privacy_record(federation, [{"answered": "0,1"}] * 3)
    assert record is not None
    assert re.search(f"{words} the operating system's entropy", record["statement"])
    assert record["epsilon"] == spent(federation, 3)
    assert record["releases"] == 3


def test_without_privacy_nothing_is_recorded_and_no_noise_is_no_finite_epsilon() -> None:
    assert privacy_record(Federation(), [{}] * 3) is None
    silent = privacy_record(Federation(privacy="central", noise_multiplier=0.0), [{}] * 3)
    assert silent is not None
    assert silent["epsilon"] is None  # JSON has no infinity


def test_under_local_noise_releases_are_those_of_the_client_asked_most_often() -> None:
    """Client 1 is asked in all of three rounds, once in vain; 0 twice, 2 once. Under central noise rounds count."""
    history = [
        {"answered": "0,1", "lost": ""},
        {"answered": "0", "lost": "client 1 (train): the site could not be reached; client 2 (evaluate): drawn"},
        {"answered": "1,2", "lost": None},
    ]
    local, central = (Federation(privacy=kind, participation=0.5) for kind in ("local", "central"))
    assert releases_of(local, history) == 3
    assert releases_of(local, history[::2]) == 2
    assert releases_of(local, [history[0], {"answered": "2", "lost": ""}]) == 1
    # Nobody knows whom a round that a killed server repeats has asked.
    assert releases_of(local, history, begun=5) == 5
    assert releases_of(central, history[:2], begun=3) == 3


@pytest.mark.parametrize("privacy_kind", ["central", "local"])
def test_the_sampling_that_is_run_is_the_one_that_is_accounted(privacy_kind: Any) -> None:
    """Poisson under central noise: clients come independently, each with the chance; else a fixed number, no gain."""
    protocol = load_protocol(
        "demo", [f"federated.privacy={privacy_kind}", "federated.participation=0.3", "federated.batch_norm=frozen"]
    )
    manager: Any = SimpleNamespace(expected=10, available=lambda: range(10))
    rounds = Rounds(None, manager, None, Work(0, seed=1), round_settings_of(protocol))  # type: ignore[arg-type]
    asked = np.zeros((4000, 10))
    for number in range(len(asked)):
        asked[number, rounds._sample(number)[0]] = 1
    sizes = asked.sum(axis=1)
    assert asked.mean(axis=0) == pytest.approx(np.full(10, 0.3), abs=0.03)
    joint = (asked.T @ asked / len(asked))[~np.eye(10, dtype=bool)]
    if privacy_kind == "central":
        assert spent(protocol.federated, 4) == privacy.epsilon(1.0, 0.3, 4, 1e-5)
        assert joint == pytest.approx(np.full(90, 0.09), abs=0.02)
        expected = binom(10, 0.3).pmf(np.arange(11)) * len(sizes)
        drawn = np.bincount(sizes.astype(int), minlength=11)
        few = expected < 5
        merged = [np.append(each[~few], each[few].sum()) for each in (drawn, expected)]
        assert chisquare(*merged).pvalue > 0.001
    else:
        assert spent(protocol.federated, 4) == privacy.epsilon(1.0, 1.0, 4, 1e-5, "replace one client")
        assert set(sizes) == {3}


@pytest.mark.parametrize(("multiplier", "rounds"), [(1.0, 1), (2.0, 10), (4.0, 50)])
def test_epsilon_without_sampling_is_the_analytic_one(multiplier: float, rounds: int) -> None:
    # Independent releases of one sensitivity are one release with less noise.
    expected = analytic_gaussian(multiplier / math.sqrt(rounds), 1e-5)
    assert privacy.epsilon(multiplier, 1.0, rounds, 1e-5) == pytest.approx(expected, abs=1e-3)


def sampled_gaussian(multiplier: float, sampling: float, delta: float) -> float:
    """Epsilon of one Poisson-sampled release: the hockey-stick divergence integrated, the worse of both directions."""

    def ratio(x: float) -> float:
        return 1 - sampling + sampling * math.exp((2 * x - 1) / (2 * multiplier**2))

    def excess(epsilon: float, removed: bool) -> float:
        def density(x: float) -> float:
            base, mixed = norm.pdf(x, 0, multiplier), ratio(x) * norm.pdf(x, 0, multiplier)
            high, low = (mixed, base) if removed else (base, mixed)
            return float(max(0.0, high - math.exp(epsilon) * low))

        return float(quad(density, -12 * multiplier, 1 + 12 * multiplier, limit=400)[0]) - delta

    return max(float(brentq(excess, 0, 50, args=(side,), xtol=1e-8)) for side in (True, False))


@pytest.mark.parametrize(("multiplier", "sampling"), [(1.0, 0.1), (0.8, 0.5)])
def test_epsilon_with_sampling_is_the_integrated_one(multiplier: float, sampling: float) -> None:
    expected = sampled_gaussian(multiplier, sampling, 1e-5)
    assert privacy.epsilon(multiplier, sampling, 1, 1e-5) == pytest.approx(expected, abs=1e-3)


def composed_by_convolution(multiplier: float, sampling: float, rounds: int, delta: float) -> float:
    """Epsilon of several sampled releases: the removal direction's privacy loss, discretised and convolved by FFT."""
    step, half = 2e-4, 1 << 18
    edges = (np.arange(-half, half + 1) - 0.5) * step
    # The loss is increasing in x, so that its distribution is the mixture's at the inverse.
    inner = (np.exp(np.maximum(edges, math.log1p(-sampling) + 1e-12)) - (1 - sampling)) / sampling
    x = multiplier**2 * np.log(inner) + 0.5
    below = (1 - sampling) * norm.cdf(x, 0, multiplier) + sampling * norm.cdf(x, 1, multiplier)
    masses = np.diff(np.where(edges <= math.log1p(-sampling), 0.0, below))
    shifted = np.fft.ifftshift(np.append(masses, 0.0)[: 2 * half])
    total = np.fft.fftshift(np.fft.irfft(np.fft.rfft(shifted) ** rounds, 2 * half))
    losses = np.arange(-half, half) * step

    def excess(epsilon: float) -> float:
        above = losses > epsilon
        return float((total[above] * -np.expm1(epsilon - losses[above])).sum()) - delta

    return float(brentq(excess, 0.01, 20, xtol=1e-7))


def test_epsilon_of_many_sampled_rounds_is_the_convolved_one() -> None:
    expected = composed_by_convolution(1.2, 0.2, 20, 1e-5)
    assert privacy.epsilon(1.2, 0.2, 20, 1e-5) == pytest.approx(expected, abs=1e-3)


def test_no_noise_is_no_privacy_and_no_round_costs_nothing() -> None:
    assert privacy.epsilon(0.0, 1.0, 5, 1e-5) == math.inf
    assert privacy.epsilon(1.0, 1.0, 0, 1e-5) == 0.0


def test_without_the_extra_a_private_fit_is_refused_before_its_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = load_protocol(
        "demo", ["federated.privacy=central", "federated.noise_multiplier=1", "federated.clip_norm=1"]
    )
    assert round_settings_of(protocol).rounds > 0
    for name in ("dp_accounting", "dp_accounting.pld"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"differential privacy needs .* dp_accounting.*bench\[privacy\]"):
        round_settings_of(protocol)
    assert round_settings_of(load_protocol("demo", [])).rounds > 0
