"""The random-effects summary against published metrics and statsmodels."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from bench.measure.statistics.meta import Method, random_effects

# BCG vaccine against tuberculosis (Colditz et al. 1994): cases and non-cases, vaccinated and not, of 13 trials.
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip


def log_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T.astype(float)
    return np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_the_bcg_trials_are_as_published() -> None:
    """metafor's worked example (Viechtbauer 2010, J. Stat. Softw. 36(3)): DL tau^2 0.3088, I^2 92.12 %, Q 152.23."""
    found = random_effects(*log_ratios(), "dersimonian-laird")
    assert (found.value, found.error) == pytest.approx((-0.7141, 0.1787), abs=5e-5)
    assert (found.tau2, 100 * found.i2, found.q) == pytest.approx((0.3088, 92.12, 152.233), abs=5e-3)


@pytest.mark.parametrize(("method", "theirs"), [("dersimonian-laird", "chi2"), ("paule-mandel", "iterated")])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_it_is_statsmodels(method: Method, theirs: str, seed: int | None) -> None:
    from statsmodels.stats.meta_analysis import combine_effects

    effects, variances = log_ratios()
    if seed is not None:
        random = np.random.default_rng(seed)
        variances = random.uniform(0.01, 0.3, 3 + seed)
        effects = random.normal(1.5, np.sqrt(variances + 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = combine_effects(effects, variances, method_re=theirs, use_t=True, atol=1e-8)
    found = random_effects(effects, variances, method)
    assert found.value == pytest.approx(known.mean_effect_re, abs=1e-6)
    assert found.error == pytest.approx(known.sd_eff_w_re, abs=1e-6)
    assert found.tau2 == pytest.approx(known.tau2, abs=1e-6)
    assert found.i2 == pytest.approx(max(0.0, known.i2), abs=1e-6)
    assert found.q == pytest.approx(known.q, abs=1e-6)
    if known.scale_hksj_re >= 1:
        assert (found.low, found.high) == pytest.approx(known.conf_int()[3], abs=1e-6)


def test_sites_that_agree_have_no_variance_between_them_and_no_shorter_interval() -> None:
    """Equal effects: Q is 0; the interval is Student's with two degrees of freedom on 1 / sqrt(3 / 0.04)."""
    found = random_effects([1.0, 1.0, 1.0], [0.04] * 3)
    assert (found.value, found.tau2, found.i2, found.q, found.p) == (1.0, 0.0, 0.0, 0.0, 1.0)
    assert found.high - 1 == pytest.approx(4.302652730 * math.sqrt(0.04 / 3))
    assert found.predicted[1] - 1 == pytest.approx(12.706204736 * math.sqrt(0.04 / 3))


def test_two_sites_predict_no_third_and_one_is_no_summary() -> None:
    assert all(math.isnan(each) for each in random_effects([0.0, 1.0], [0.1, 0.1]).predicted)
    for effects, variances in (([1.0], [0.1]), ([1.0, 2.0], [0.1, 0.0])):
        with pytest.raises(ValueError, match="two studies and positive variances"):
            random_effects(effects, variances)
