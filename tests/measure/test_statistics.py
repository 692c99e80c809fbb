"""Paired statistics against statsmodels, slow loops, published examples and hand numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from bench.measure.quality import quality
from bench.measure.statistics import paired as subject
from bench.measure.statistics.pooled import Paired, difference, differences, mean_difference

TABLES = [(3, 9), (0, 7), (12, 12), (40, 21), (5, 60), (100, 130), (0, 0)]


def pair(only_a: int, only_b: int, both: int = 50) -> tuple[np.ndarray, np.ndarray]:
    first = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(both)].astype(bool)
    second = np.r_[np.zeros(only_a), np.ones(only_b), np.ones(both)].astype(bool)
    return first, second


@pytest.mark.parametrize(("only_a", "only_b"), TABLES)
def test_mcnemar_equals_its_printed_form(only_a: int, only_b: int) -> None:
    """Exact: the binomial test below 25 discordant images; else Edwards' corrected chi-square of one degree."""
    found, many = subject.mcnemar(*pair(only_a, only_b)), only_a + only_b
    assert (found.only_a, found.only_b, found.exact) == (only_a, only_b, many < 25)
    if many == 0:
        assert found.p == 1
    elif many < 25:
        assert found.p == pytest.approx(binomtest(only_a, many).pvalue, abs=1e-9)
    else:
        assert found.p == pytest.approx(chi2.sf(max(abs(only_a - only_b) - 1, 0) ** 2 / many, 1), abs=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), TABLES)
def test_sign_flip_of_single_images_is_the_binomial_test(only_a: int, only_b: int) -> None:
    both, worse = subject.sign_flip([1] * only_a + [-1] * only_b)
    if only_a + only_b:
        assert both == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, abs=1e-9)
        assert worse == pytest.approx(binomtest(only_a, only_a + only_b, alternative="less").pvalue, abs=1e-9)
    else:
        assert (both, worse) == (1, 1)


@pytest.mark.parametrize("sums", [[3, -1, 2, 0, 4], [1, 1, 1, -2, 5, -3], [-2, -2, -7, 1]])
def test_sign_flip_equals_every_flip_tried_out(sums: list[int]) -> None:
    steps, observed = [abs(s) for s in sums if s], sum(sums)
    totals = [
        sum(s * d for s, d in zip(signs, steps, strict=True)) for signs in itertools.product((1, -1), repeat=len(steps))
    ]
    both, worse = subject.sign_flip(sums)
    assert both == pytest.approx(np.mean([abs(t) >= abs(observed) for t in totals]))
    assert worse == pytest.approx(np.mean([t <= observed for t in totals]))


def part_of(labels: Any, first: Any, second: Any, groups: Any = None) -> Paired:
    ids = np.array([f"i{index}" for index in range(len(labels))])
    return Paired(ids, ids if groups is None else np.asarray(groups), np.asarray(labels), first, second)


def slow_delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """DeLong, DeLong and Clarke-Pearson 1988 as printed: pairwise kernels and two covariance matrices."""

    def components(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cases, controls = score[labels == 1], score[labels == 0]
        kernel = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in controls] for x in cases])
        return kernel.mean(axis=1), kernel.mean(axis=0)

    (case_a, control_a), (case_b, control_b) = components(first), components(second)
    covariance = np.cov(case_a, case_b) / case_a.size + np.cov(control_a, control_b) / control_a.size
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return case_a.mean(), case_b.mean(), variance


def delong(labels: Any, first: Any, second: Any, groups: Any = None) -> subject.Difference:
    """DeLong's test from the components; those of a group are added up before squaring (Obuchowski 1997)."""
    (auc_a, shares_a), (auc_b, shares_b) = subject.auc(labels, first), subject.auc(labels, second)
    codes = np.arange(shares_a.size) if groups is None else np.unique(groups, return_inverse=True)[1]
    error = float(np.sqrt((subject.group_sums(shares_a - shares_b, codes) ** 2).sum()))
    return subject.normal_difference(auc_a - auc_b, error, "DeLong")


@pytest.mark.parametrize("seed", range(4))
def test_delong_equals_the_slow_form(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.r_[1, 0, generator.integers(0, 2, 90)]
    first = np.round(generator.normal(size=92) + labels, 1)
    second = np.round(first / 2 + generator.normal(size=92) + labels / 3, 1)
    auc_a, auc_b, variance = slow_delong(labels, first, second)
    columns = [np.stack([-score, score], axis=1) for score in (first, second)]
    found = delong(labels, *columns)
    assert found.value == pytest.approx(auc_a - auc_b, abs=1e-9)
    assert found.error == pytest.approx(np.sqrt(variance), abs=1e-9)


# DeLong et al. (1988), 43 complete patients with ovarian cancer as printed in SAS/STAT's PROC LOGISTIC example
# "Comparing Receiver Operating Characteristic Curves": albumin, total protein, K-G score, whether surgery helped.
_OVARIAN_TEXT = """
    3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
    3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
    4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
    4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
    2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1"""
OVARIAN = np.fromstring(_OVARIAN_TEXT, sep=" ").reshape(-1, 4)


def test_delong_on_the_published_ovarian_example() -> None:
    """SAS prints areas 0.7366, 0.6478, 0.7258 and, against the K-G score, 0.0108 (0.0953) and -0.0780 (0.1046)."""
    labels, score = OVARIAN[:, 3].astype(int), 10 - OVARIAN[:, 2]
    tests = [np.stack([-column, column], axis=1) for column in (OVARIAN[:, 0], OVARIAN[:, 1], score)]
    assert [subject.auc(labels, test)[0] for test in tests] == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    albumin, protein = (delong(labels, test, tests[2]) for test in tests[:2])
    assert (albumin.value, albumin.error, albumin.p) == pytest.approx((0.0108, 0.0953, 0.9102), abs=5e-5)
    assert (protein.value, protein.error, protein.p) == pytest.approx((-0.0780, 0.1046, 0.4561), abs=5e-5)


def test_delong_of_several_classes_agrees_with_the_jackknife() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 400)
    logits = generator.normal(size=(400, 3)) + np.eye(3)[labels]
    other = logits + generator.normal(size=(400, 3)) * 0.7
    softmax = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, other)]
    found = delong(labels, *softmax)
    slow = differences([part_of(labels, *softmax)], ("a", "b", "c"), ["roc_auc"])["roc_auc"]
    assert found.value == pytest.approx(slow.value, abs=1e-9)
    assert found.error == pytest.approx(slow.error, rel=0.12)


def test_delong_of_several_classes_equals_pairwise_covariances() -> None:
    """The covariance between one-vs-rest AUCs, from kernels written out image by image."""
    generator = np.random.default_rng(3)
    labels = np.r_[0, 1, 2, generator.integers(0, 3, 60)]
    shares = np.round(generator.dirichlet(np.ones(3), 63) + np.eye(3)[labels], 1)
    value, parts = subject.auc(labels, shares)
    expected_value, total = [], np.zeros(63)
    for index in range(3):
        cases, controls = np.flatnonzero(labels == index), np.flatnonzero(labels != index)
        score = shares[:, index]
        kernel = (score[cases, None] > score[None, controls]) + 0.5 * (score[cases, None] == score[None, controls])
        expected_value.append(kernel.mean())
        total[cases] += (kernel.mean(1) - kernel.mean()) / np.sqrt(cases.size * (cases.size - 1)) / 3
        total[controls] += (kernel.mean(0) - kernel.mean()) / np.sqrt(controls.size * (controls.size - 1)) / 3
    assert value == pytest.approx(np.mean(expected_value), abs=1e-9)
    np.testing.assert_allclose(parts, total, atol=1e-9)


def test_copies_of_a_patient_do_not_make_a_difference_surer() -> None:
    generator = np.random.default_rng(0)
    labels, first = np.tile([0, 1], 30), generator.random((60, 2))
    second = generator.random((60, 2))
    groups = np.array([f"p{index}" for index in range(60)])
    once = delong(labels, first, second, groups)
    copied = [np.repeat(x, 5, axis=0) for x in (labels, first, second, groups)]
    assert delong(*copied).error == pytest.approx(once.error, rel=0.03)
    assert delong(*copied[:3]).error < once.error / 2


def test_clustered_accuracy_difference_by_hand() -> None:
    """Twelve patients of two images: A wins both images of eight, loses one image of one."""
    sums = [2] * 8 + [-1] + [0] * 3
    first, second = [], []
    for total in sums:
        first += {2: [1, 1], -1: [0, 1], 0: [1, 1]}[total]
        second += {2: [0, 0], -1: [1, 1], 0: [1, 1]}[total]
    groups = np.repeat([f"p{index}" for index in range(12)], 2)
    found = subject.accuracy_difference(first, second, groups)
    assert found.value == pytest.approx(15 / 24)
    assert found.p == pytest.approx(subject.sign_flip(sums)[0])
    residuals = np.array(sums) - 2 * 15 / 24
    assert found.error == pytest.approx(np.sqrt((residuals**2).sum() * 12 / 11) / 24)


def test_holm_by_hand() -> None:
    """4 x 0.005, 3 x 0.01, 2 x 0.03, then 1 x 0.04, which may not be below the one before."""
    assert subject.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_undefined_members_out() -> None:
    found = subject.holm([0.02, float("nan"), 0.03])
    assert found[0] == pytest.approx(0.04)
    assert np.isnan(found[1])


def test_a_system_differs_from_itself_nowhere() -> None:
    generator = np.random.default_rng(5)
    shares = generator.dirichlet(np.ones(3), 100)
    labels = generator.integers(0, 3, 100)
    found = differences([part_of(labels, shares, shares)], ("a", "b", "c"))
    assert all((entry.value, entry.low, entry.high, entry.p) == (0, 0, 0, 1) for entry in found.values())


def test_the_jackknife_of_accuracy_equals_the_closed_form() -> None:
    part = two_systems(6, 150, 2)
    hits = [subject.right(part.labels, share, ("a", "b")) for share in (part.first, part.second)]
    exact = subject.accuracy_difference(*hits, part.groups)
    slow = differences([part], ("a", "b"), ["accuracy"])["accuracy"]
    assert (slow.value, slow.error, slow.freedom) == pytest.approx((exact.value, exact.error, exact.freedom))


def test_smallest_difference_is_what_a_simulation_finds_four_times_of_five() -> None:
    generator = np.random.default_rng(7)
    size, discordant = 600, 0.08
    found = subject.smallest_difference(np.sqrt(discordant / size), size)
    gain, loss = (discordant + found) / 2, (discordant - found) / 2
    hits = 0
    for _ in range(400):
        wins, losses, _ = generator.multinomial(size, [gain, loss, 1 - gain - loss])
        hits += subject.sign_flip([1] * wins + [-1] * losses)[0] < 0.05
    assert hits / 400 == pytest.approx(0.8, abs=0.07)


def two_systems(seed: int, size: int, classes: int) -> Paired:
    generator = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), generator.integers(0, classes, size - classes)]
    first = generator.dirichlet(np.ones(classes), size) + np.eye(classes)[labels] / 2
    second = first + generator.dirichlet(np.ones(classes), size)
    shares = [x / x.sum(1, keepdims=True) for x in (first, second)]
    return part_of(labels, *shares, groups=[f"p{index // 3}" for index in range(size)])


def bootstrapped(name: str, part: Paired, names: tuple[str, ...]) -> np.ndarray:
    """Differences of 400 drawings of whole groups."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(part.groups == group) for group in dict.fromkeys(part.groups.tolist())]
    drawn = []
    for _ in range(400):
        rows = np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])
        values = [quality(part.labels[rows], shares[rows], names)[name] for shares in (part.first, part.second)]
        drawn.append(values[0] - values[1])
    return np.array(drawn)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "roc_auc", "f1", "log_loss"])
@pytest.mark.parametrize("classes", [2, 4])
def test_pooled_differences_agree_with_the_slow_bootstrap(name: str, classes: int) -> None:
    part, names = two_systems(classes, 500, classes), tuple("abcd"[:classes])
    fast, slow = difference(name, [part], names), bootstrapped(name, part, names)
    at = [quality(part.labels, shares, names)[name] for shares in (part.first, part.second)]
    assert fast.value == pytest.approx(at[0] - at[1], abs=1e-9)
    assert fast.error == pytest.approx(slow.std(ddof=1), rel=0.15)
    assert (fast.low, fast.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.4 * fast.error)


def test_the_same_test_part_under_two_seeds_is_not_twice_the_evidence() -> None:
    part, names = two_systems(1, 300, 3), ("a", "b", "c")
    for name in ("accuracy", "balanced_accuracy", "roc_auc"):
        once, twice = difference(name, [part], names), difference(name, [part, part], names)
        assert twice.value == pytest.approx(once.value)
        assert twice.error == pytest.approx(once.error, rel=0.02)


def test_mean_over_two_datasets_by_hand() -> None:
    parts = [subject.normal_difference(value, error, "") for value, error in ((0.02, 0.03), (0.04, 0.04))]
    found = mean_difference(parts)
    assert (found.value, found.error) == pytest.approx((0.03, 0.025))


def test_images_in_another_order_are_brought_together_and_others_refused() -> None:
    order_a, order_b = subject.same_images(["b", "a", "c"], ["c", "b", "a"])  # type: ignore[misc]
    assert [["b", "a", "c"][i] for i in order_a] == [["c", "b", "a"][i] for i in order_b]
    assert subject.same_images(["a", "b"], ["a", "c"]) is None
    assert subject.same_images(["a"], ["a", "b"]) is None


def test_one_group_counts_every_image_once_over_pooled_seeds() -> None:
    ids = [f"i{index}" for index in range(12)] * 2
    names, unit = subject.drawn_groups(["fold1"] * 24, ids)
    assert (len(set(names)), unit) == (12, "image")
    patients = [f"p{index // 12}" for index in range(24)]
    names, unit = subject.drawn_groups(patients, ids)
    assert (list(names), unit) == (patients, "group")


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "roc_auc"])
def test_a_difference_over_the_images_of_one_group_says_that_it_is_too_narrow(name: str) -> None:
    part = two_systems(1, 120, 3)
    one = Paired(part.ids, np.full(120, "fold1"), part.labels, part.first, part.second)
    assert difference(name, [one], ("a", "b", "c")).narrow
    assert not difference(name, [part], ("a", "b", "c")).narrow


@pytest.mark.parametrize("seed", range(3))
def test_clustered_error_equals_leaving_each_group_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 7, 60)
    first, second = generator.random((2, 60)) < 0.8
    found = subject.accuracy_difference(first, second, groups.astype(str))
    steps = first.astype(float) - second
    without = np.array([steps[groups != group].mean() for group in range(7)])
    assert found.error == pytest.approx(np.sqrt(6 / 7 * ((without - steps.mean()) ** 2).sum()), abs=1e-12)


def test_clustered_error_is_close_to_statsmodels_cluster_robust_one() -> None:
    import statsmodels.api as sm

    generator = np.random.default_rng(0)
    groups = generator.integers(0, 40, 300)
    first, second = generator.random((2, 300)) < 0.8
    found = subject.accuracy_difference(first, second, groups.astype(str))
    steps = first.astype(float) - second
    fit = sm.OLS(steps, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert found.value == pytest.approx(float(fit.params[0]), abs=1e-9)
    assert found.error == pytest.approx(float(fit.bse[0]), rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_clustered_delong_equals_a_loop_over_groups(seed: int) -> None:
    part = two_systems(seed, 120, 2)
    positive = part.labels == 1
    totals: dict[str, float] = {}
    for shares, sign in ((part.first, 1), (part.second, -1)):
        score = shares[:, 1]
        for place, group in enumerate(part.groups):
            rivals = score[~positive] if positive[place] else score[positive]
            wins = (score[place] > rivals) if positive[place] else (rivals > score[place])
            component = wins.mean() + 0.5 * (rivals == score[place]).mean()
            value = np.mean(
                [(s > score[~positive]).mean() + 0.5 * (s == score[~positive]).mean() for s in score[positive]]
            )
            count = int(positive.sum()) if positive[place] else int((~positive).sum())
            totals[group] = totals.get(group, 0.0) + sign * (component - value) / np.sqrt(count * (count - 1))
    found = delong(part.labels, part.first, part.second, part.groups)
    assert found.error == pytest.approx(np.sqrt(sum(total**2 for total in totals.values())), abs=1e-9)
