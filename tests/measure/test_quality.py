"""Quality columns against scikit-learn and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from bench.core.errors import UserError
from bench.measure import quality as subject
from bench.measure.statistics.clusters import clusters
from bench.measure.statistics.methods import METHODS, TOO_NARROW

CLASSES = ("a", "b", "c", "d")


def draw(seed: int, size: int, classes: int, skew: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.full(classes, 2.0) * skew ** np.arange(classes))
    labels = generator.choice(classes, size=size, p=shares)
    labels[:classes] = np.arange(classes)
    logits = generator.normal(size=(size, classes)) + 1.2 * np.eye(classes)[labels]
    # Rounded, so that ties between probabilities occur.
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 2) + 0.01
    return labels, probabilities / probabilities.sum(1, keepdims=True)


@pytest.mark.parametrize(("seed", "size", "classes"), [(0, 400, 4), (1, 90, 2), (2, 1500, 7), (3, 60, 3)])
def test_columns_equal_scikit_learn(seed: int, size: int, classes: int) -> None:
    labels, probabilities = draw(seed, size, classes, skew=0.7)
    names = tuple(f"k{index}" for index in range(classes))
    ours = subject.quality(labels, probabilities, names)
    predicted = probabilities.argmax(1)
    macro = {"average": "macro", "zero_division": 0}
    onehot = np.eye(classes)[labels]
    reference = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, **macro),
        "recall": metrics.recall_score(labels, predicted, **macro),
        "sensitivity": metrics.recall_score(labels, predicted, **macro),
        "f1": metrics.f1_score(labels, predicted, **macro),
        "specificity": np.mean(
            [metrics.recall_score(labels != k, predicted != k, zero_division=0) for k in range(classes)]
        ),
        "roc_auc": metrics.roc_auc_score(onehot, probabilities, average="macro"),
        "pr_auc": metrics.average_precision_score(onehot, probabilities, average="macro"),
        "log_loss": metrics.log_loss(labels, probabilities),
        "brier": metrics.brier_score_loss(
            labels, probabilities[:, 1] if classes == 2 else probabilities, labels=range(classes)
        ),
        "mcc": metrics.matthews_corrcoef(labels, predicted),
    }
    for name, value in reference.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name
    per_class = metrics.recall_score(labels, predicted, average=None)
    assert [ours[f"recall_{name}"] for name in names] == pytest.approx(list(per_class))
    assert ours["roc_auc_hard"] == pytest.approx((reference["recall"] + reference["specificity"]) / 2)


def test_hand_numbers_of_three_images() -> None:
    probabilities = [[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]
    ours = subject.quality([0, 1, 1], probabilities, ("no", "yes"))
    assert ours["accuracy"] == pytest.approx(2 / 3)
    assert ours["recall"] == ours["specificity"] == ours["roc_auc_hard"] == pytest.approx(0.75)
    assert ours["roc_auc"] == pytest.approx(1.0)
    assert ours["brier"] == pytest.approx((0.04 + 0.36 + 0.09) / 3)
    assert ours["ece"] == pytest.approx((0.2 + 0.6 + 0.3) / 3)
    assert ours["log_loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7]).mean())


def test_the_papers_roc_auc_equals_macro_recall_on_two_classes() -> None:
    """Row Br35H prints 99.34 in every column; the real AUC is something else."""
    labels, probabilities = draw(5, 300, 2)
    ours = subject.quality(labels, probabilities, ("no", "yes"))
    assert ours["roc_auc_hard"] == pytest.approx(ours["recall"])
    assert abs(ours["roc_auc"] - ours["roc_auc_hard"]) > 0.01


def test_ece_equals_a_plain_loop() -> None:
    labels, probabilities = draw(4, 500, 4)
    top, predicted = probabilities.max(1), probabilities.argmax(1)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (top > low + 1e-12) & (top <= low + 1 / 15 + 1e-12)
        if inside.any():
            gap = abs(top[inside].mean() - (predicted[inside] == labels[inside]).mean())
            expected += inside.mean() * gap
    assert subject.quality(labels, probabilities, CLASSES)["ece"] == pytest.approx(expected, abs=1e-9)


def test_a_class_without_images_is_undefined_with_its_reason_and_leaves_the_means() -> None:
    labels = [0, 0, 1, 1]
    probabilities = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]]
    ours = subject.quality(labels, probabilities, ("a", "b", "c"))
    assert np.isnan(ours["recall_c"])
    assert ours["recall"] == pytest.approx(0.75)
    reasons = subject.undefined(labels, probabilities, ("a", "b", "c"))
    assert reasons["recall_c"] == "no test image of class c"


def test_one_class_in_the_test_part_leaves_the_auc_undefined() -> None:
    ours = subject.quality([0, 0], [[0.7, 0.3], [0.6, 0.4]], ("a", "b"))
    assert np.isnan(ours["roc_auc"])
    assert "one class only" in subject.undefined([0, 0], [[0.7, 0.3], [0.6, 0.4]], ("a", "b"))["roc_auc"]


def test_a_class_that_is_never_predicted_counts_as_zero_precision_and_is_named() -> None:
    labels, probabilities = [0, 1], [[0.7, 0.3], [0.6, 0.4]]
    assert subject.quality(labels, probabilities, ("a", "b"))["precision"] == pytest.approx(0.25)
    assert "never predicted" in subject.undefined(labels, probabilities, ("a", "b"))["precision"]


def test_the_rarest_class_is_named() -> None:
    assert subject.rarest_class([0, 0, 1, 0, 1, 3, 3], CLASSES) == "b"


def test_columns_without_a_group_equal_scikit_learn_on_the_images_left() -> None:
    labels, probabilities = draw(7, 120, 3)
    groups = np.array([f"g{index // 4:02}" for index in range(120)])
    codes, unit = clusters(groups)
    assert unit == "group"
    found = subject.left_out(subject.scores(labels, probabilities, CLASSES[:3]), codes)
    for part in (0, 7, 29):
        kept = codes != part
        truth, shares = labels[kept], probabilities[kept]
        expected = {
            "accuracy": metrics.accuracy_score(truth, shares.argmax(1)),
            "roc_auc": metrics.roc_auc_score(np.eye(3)[truth], shares, average="macro"),
            "pr_auc": metrics.average_precision_score(np.eye(3)[truth], shares),
            "mcc": metrics.matthews_corrcoef(truth, shares.argmax(1)),
            "log_loss": metrics.log_loss(truth, shares, labels=[0, 1, 2]),
            "ece": subject.quality(truth, shares, CLASSES[:3])["ece"],
        }
        for name, value in expected.items():
            assert found[name][1][part] == pytest.approx(value, abs=1e-6 if name == "log_loss" else 1e-9), name


def test_images_of_one_group_widen_the_interval() -> None:
    """40 copies of one patient's slice are one observation, not 40."""
    labels = np.repeat([0, 1] * 15, 40)
    truth = np.repeat(np.random.default_rng(0).random(30) < 0.8, 40)
    positive = np.where(truth == (labels == 1), 0.9, 0.1)
    probabilities = np.stack([1 - positive, positive], axis=1)
    groups = np.repeat([f"p{index}" for index in range(30)], 40)
    by_group = subject.intervals(labels, probabilities, groups, ("a", "b"))["accuracy"]
    by_image = subject.intervals(labels, probabilities, [""] * 1200, ("a", "b"))["accuracy"]
    assert by_group[1] - by_group[0] > 4 * (by_image[1] - by_image[0])


@pytest.mark.parametrize(
    ("groups", "unit"),
    [(["1"] * 60, "image"), (["1"] * 30 + ["2"] * 30, "group"), ([""] * 60, "unknown"), (["1"] + [""] * 59, "group")],
)
def test_one_group_leaves_images_and_says_so(groups: list[str], unit: str) -> None:
    codes, found = clusters(groups)
    assert found == unit
    assert codes.max() + 1 == (60 if unit != "group" or "" in groups else 2)
    assert (TOO_NARROW in METHODS[found]) is (unit == "image")


def test_few_groups_widen_the_interval_as_student_does() -> None:
    """Four groups of ten images, 10, 9, 8 and 5 right: mean 0.8, error of the mean of four, t of 3 on the logit."""
    labels = np.zeros(40, dtype=int)
    right = np.concatenate([np.r_[np.ones(many), np.zeros(10 - many)] for many in (10, 9, 8, 5)])
    probabilities = np.stack([0.2 + 0.6 * right, 0.8 - 0.6 * right], axis=1)
    groups = np.repeat(list("abcd"), 10)
    found = subject.intervals(labels, probabilities, groups, ("a", "b"))["accuracy"]
    step = 3.182446305 * np.std([1.0, 0.9, 0.8, 0.5], ddof=1) / 2 / (0.8 * 0.2)
    assert found == pytest.approx(tuple(1 / (1 + np.exp(-(np.log(4) + s * step))) for s in (-1, 1)), abs=1e-8)


def test_all_right_is_no_certainty() -> None:
    """Five groups without an error: as five trials without one, 0.025 ** (1 / 5)."""
    probabilities = np.tile([0.9, 0.1], (50, 1))
    found = subject.intervals(np.zeros(50, int), probabilities, np.repeat(list("abcde"), 10), ("a", "b"))
    assert found["accuracy"] == pytest.approx((0.025**0.2, 1.0))


def test_a_class_of_a_single_group_has_no_interval_of_its_recall() -> None:
    labels, probabilities = draw(3, 90, 3)
    groups = np.where(labels == 2, "only", np.array([f"p{index % 9}" for index in range(90)]))
    found = subject.intervals(labels, probabilities, groups, CLASSES[:3])
    assert np.isnan(found[f"recall_{CLASSES[2]}"]).all()
    assert np.isfinite(found[f"recall_{CLASSES[0]}"]).all()


def test_many_groups_in_lots_give_the_error_of_each_alone() -> None:
    labels, probabilities = draw(4, 3000, 3)
    groups = np.array([f"p{index // 3}" for index in range(3000)])
    lots, each = (subject.intervals(labels, probabilities, groups, CLASSES[:3], most) for most in (200, 1000))
    for name in ("accuracy", "roc_auc", "pr_auc", "mcc"):
        assert lots[name][1] - lots[name][0] == pytest.approx(each[name][1] - each[name][0], rel=0.2), name


def test_interval_of_accuracy_is_close_to_the_binomial_one() -> None:
    labels, probabilities = draw(9, 800, 2)
    low, high = subject.intervals(labels, probabilities, [""] * 800, ("a", "b"))["accuracy"]
    share = subject.quality(labels, probabilities, ("a", "b"))["accuracy"]
    expected = 2 * 1.96 * np.sqrt(share * (1 - share) / 800)
    assert high - low == pytest.approx(expected, rel=0.1)
    assert low < share < high


def test_equal_seeds_give_equal_intervals() -> None:
    labels, probabilities = draw(2, 100, 3)
    first = subject.intervals(labels, probabilities, [""] * 100, CLASSES[:3], most_parts=50, seed=1)
    again = subject.intervals(labels, probabilities, [""] * 100, CLASSES[:3], most_parts=50, seed=1)
    assert first == again


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "N > 0"),
        ([0, 2], [[0.5, 0.5]] * 2, "labels must lie in 0..1"),
        ([0, 1], [[0.5, 0.4], [0.5, 0.5]], "sum to 1"),
        ([0, 1], [[np.nan, 0.4], [0.5, 0.5]], "finite"),
        ([0, 1], [[0.5, 0.5]], "probabilities"),
    ],
)
def test_bad_predictions_are_refused(labels: object, probabilities: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        subject.quality(labels, probabilities, ("a", "b"))
