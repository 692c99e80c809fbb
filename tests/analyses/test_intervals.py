"""Intervals of analyses: exact shares, whole groups, and nothing where nothing can be known."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest, t

from bench.analyses.support import intervals as subject

SETTINGS = subject.ResampledSettings(resamples=400)


def mean(values):
    values = np.asarray(values, dtype=float)
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


@pytest.mark.parametrize(("hits", "size"), [(0, 12), (12, 12), (7, 12), (1, 40), (33, 80)])
def test_a_share_of_single_images_is_clopper_pearson(hits, size):
    found = subject.proportion(np.arange(size) < hits, np.full(size, ""))
    expected = binomtest(hits, size).proportion_ci(0.95, "exact")
    assert found.value == hits / size
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_share_of_whole_groups_is_the_one_of_as_many_images():
    # 30 patients of 4 images, all alike: the evidence is that of 30 images, Student's t narrows it once more.
    hits, groups = np.repeat(np.arange(30) < 20, 4), np.repeat(np.arange(30), 4).astype(str)
    found = subject.proportion(hits, groups)
    alone = binomtest(20, 30).proportion_ci(0.95, "exact")
    assert found.value == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    perfect = subject.proportion(np.ones(120), groups)
    assert (perfect.low, perfect.high) == pytest.approx((binomtest(30, 30).proportion_ci(0.95, "exact").low, 1))


def test_a_clustered_share_covers_the_truth_as_often_as_it_says():
    generator, covered = np.random.default_rng(5), 0
    for _ in range(300):
        chances = np.repeat(generator.beta(4, 1, 40), 5)
        found = subject.proportion(generator.uniform(size=200) < chances, np.repeat(np.arange(40), 5).astype(str))
        covered += found.low <= 0.8 <= found.high
    assert covered / 300 >= 0.93


def test_the_bootstrap_has_the_clustered_error_of_a_mean():
    generator = np.random.default_rng(1)
    values, groups = np.repeat(generator.normal(size=200), 3), np.repeat(np.arange(200), 3).astype(str)
    found = subject.estimates(mean(values), groups, subject.ResampledSettings(resamples=4000))["mean"]
    error = values[::3].std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.06)


def test_few_images_get_a_jackknife_whose_error_of_a_mean_is_students():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    found = subject.resample(mean(values), np.full(4, ""), SETTINGS)
    reach = 3.182446305284263 * values.std(ddof=1) / 2
    assert found.method == "jackknife"
    assert (found.estimate("mean").low, found.estimate("mean").high) == pytest.approx((3.5 - reach, 3.5 + reach))


def test_one_group_and_a_metric_that_does_not_vary_have_no_bounds():
    one = np.full(40, "patient 1")
    values = np.arange(40) % 2
    assert subject.estimates(mean(values), one, SETTINGS)["mean"] == subject.Estimate(0.5)
    assert subject.proportion(values, one) == subject.Estimate(0.5)
    assert subject.unit_notes(one) == ["all 40 test images belong to the group patient 1: no interval can be given"]
    assert subject.estimates(mean(np.ones(40)), np.full(40, ""), SETTINGS)["mean"] == subject.Estimate(1.0)
    assert subject.proportion([], []) == subject.Estimate(None)


def test_a_metric_that_is_mostly_undefined_has_no_bounds_and_an_undefined_one_no_value():
    def statistics(weights):
        rare = np.where(weights[:, 0] > 2, weights[:, 0], np.nan)
        rare[: len(weights) == 1] = 1.0
        return {"rare": rare, "never": np.full(len(weights), np.nan)}

    found = subject.estimates(statistics, np.full(50, ""), SETTINGS)
    assert found["rare"].low is None
    assert found["never"] == subject.Estimate(None)


@pytest.mark.parametrize("field", [{"resamples": 10}, {"seed": -1}, {"draws": 5}])
def test_settings_have_bounds(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        subject.ResampledSettings(**field)


def test_a_share_of_unequal_groups_is_korn_and_graubards_formula():
    generator = np.random.default_rng(7)
    names = np.repeat([f"p{n}" for n in range(14)], generator.integers(1, 7, 14))
    hits = generator.uniform(size=names.size) < np.where(np.char.endswith(names, "3"), 0.1, 0.8)
    n, groups, share = names.size, np.unique(names), hits.mean()
    squares = sum((hits[names == name] - share).sum() ** 2 for name in groups)
    error = squares / n**2 * 14 / 13
    size = share * (1 - share) / error * (t.ppf(0.975, n - 1) / t.ppf(0.975, 13)) ** 2
    assert size < n
    found = subject.proportion(hits, names)
    assert found.low == pytest.approx(beta.ppf(0.025, share * size, size - share * size + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, share * size + 1, size - share * size))
