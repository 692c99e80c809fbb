"""Student's t, Holm, McNemar and ranks against scipy and statsmodels, which reports do not import."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from bench.measure.statistics.paired import _mean_ranks, holm, mcnemar
from bench.measure.statistics.student import student_quantile, student_tail


@pytest.mark.parametrize("free", [1, 2.5, 7, 300, math.inf])
def test_quantiles_and_tails_are_scipys(free: float) -> None:
    for share in (0.025, 0.5, 0.8, 0.975):
        assert student_quantile(share, free) == pytest.approx(stats.t.ppf(share, free), rel=1e-12, abs=1e-15)
    for value in (0.0, 0.7, 5.0, 40.0):
        assert student_tail(value, free) == pytest.approx(stats.t.sf(value, free), rel=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(1, 0), (3, 9), (12, 12), (5, 30), (40, 41)])
def test_mcnemar_is_that_of_statsmodels(only_a: int, only_b: int) -> None:
    right_a = [True] * only_a + [False] * only_b + [True] * 5
    right_b = [False] * only_a + [True] * only_b + [True] * 5
    exact = only_a + only_b < 25
    expected = reference([[5, only_a], [only_b, 0]], exact=exact).pvalue
    assert mcnemar(right_a, right_b).p == pytest.approx(float(expected), rel=1e-12)


def test_holm_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(0)
    for count in (1, 2, 9):
        values = generator.uniform(0, 0.4, count)
        assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1].tolist())
    assert holm([0.02, math.nan, 0.02])[::2] == [0.04, 0.04]


def test_ranks_share_ties_as_scipys_do() -> None:
    values = np.random.default_rng(1).integers(0, 6, 50).astype(np.float64)
    assert _mean_ranks(values).tolist() == stats.rankdata(values).tolist()
