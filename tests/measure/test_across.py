"""Statistics over datasets against Demšar's worked example and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from bench.measure.statistics import across as subject

# Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), table 6: AUC of C4.5 and
# three tuned variants on 14 datasets. Printed: mean ranks 3.143, 2.000, 2.893, 1.964, Friedman 9.28, critical
# difference 1.25, so that Nemenyi's test tells no two of the four apart at 5 %.
DEMSAR = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip
NAMES = ("C4.5", "+m", "+cf", "+m+cf")


def test_demsars_worked_example() -> None:
    found = subject.friedman(NAMES, DEMSAR)
    assert found.ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    plain = 12 * 14 / (4 * 5) * (sum(r * r for r in found.ranks) - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=0.01)
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*DEMSAR.T).statistic)
    assert found.cliques == (("+m+cf", "+m", "+cf", "C4.5"),)


# Demšar's table 5(a): studentized-range quantiles at 5 %, divided by the square root of 2.
QUANTILES = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.mark.parametrize(("models", "datasets"), [(3, 4), (5, 10), (10, 30)])
def test_critical_difference_equals_the_integral_and_the_printed_quantiles(models: int, datasets: int) -> None:
    table = np.random.default_rng(0).random((datasets, models))
    found = subject.friedman([str(index) for index in range(models)], table)
    quantile = found.critical_difference / np.sqrt(models * (models + 1) / 6 / datasets)
    assert quantile == pytest.approx(QUANTILES[models], abs=1e-3)

    def density(z: float) -> float:
        between = stats.norm.cdf(z) - stats.norm.cdf(z - quantile * np.sqrt(2))
        return float(models * stats.norm.pdf(z) * between ** (models - 1))

    assert integrate.quad(density, -10, 14, epsabs=1e-12)[0] == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_friedman_equals_its_formula_with_the_correction_for_ties(seed: int) -> None:
    table = np.round(np.random.default_rng(seed).random((9, 4)), 1)
    found = subject.friedman(NAMES, table)
    ranks = np.array([[1 + sum(o > v for o in row) + (sum(o == v for o in row) - 1) / 2 for v in row] for row in table])
    ties = sum(int(c) ** 3 - int(c) for row in ranks for c in np.unique(row, return_counts=True)[1])
    plain = 12 / (9 * 4 * 5) * (ranks.sum(0) ** 2).sum() - 3 * 9 * 5
    assert found.ranks == pytest.approx(tuple(ranks.mean(0)), abs=1e-9)
    assert found.statistic == pytest.approx(plain / (1 - ties / (9 * 4 * 15)), abs=1e-9)


def test_ranks_by_hand_with_a_tie() -> None:
    found = subject.friedman(("a", "b", "c"), [[0.9, 0.9, 0.1], [0.8, 0.7, 0.6]])
    assert found.ranks == pytest.approx((1.25, 1.75, 3.0))


def test_equal_models_differ_in_nothing() -> None:
    found = subject.friedman(("a", "b", "c"), np.full((4, 3), 0.5))
    assert found.p == 1
    assert found.cliques == (("a", "b", "c"),)


def test_too_few_models_are_refused() -> None:
    with pytest.raises(ValueError, match="3 models and 2 datasets"):
        subject.friedman(("a", "b"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("seed", range(3))
def test_wilcoxon_equals_scipy(seed: int) -> None:
    first, second = np.random.default_rng(seed).random((2, 12))
    assert subject.wilcoxon(first, second) == pytest.approx(stats.wilcoxon(first, second).pvalue, abs=1e-9)
    assert subject.wilcoxon(first, first) == 1
    assert np.isnan(subject.wilcoxon([1.0], [2.0]))


def test_slower_by_a_tenth_is_found_and_equal_times_are_not() -> None:
    generator = np.random.default_rng(2)
    base, same = generator.normal(100, 3, (2, 20))
    p, ratio = subject.slower(same * 1.1, base)
    assert p < 0.001
    assert ratio == pytest.approx(1.1, abs=0.03)
    assert subject.slower(same, base)[0] > 0.05
