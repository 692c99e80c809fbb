"""Risk and coverage by hand on ten rows, by the closed form, and over every order of ties."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.analyses import selective as subject

SETTINGS = subject.SelectiveSettings(resamples=200)
WRONG = np.array([0, 0, 1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
SURE = np.linspace(0.99, 0.55, 10)


def test_areas_on_ten_rows():
    found = subject.areas(WRONG, SURE)(np.ones((1, 10)))
    # Errors among the n surest: 0 0 1 1 1 1 2 2 3 4.
    aurc = (0 + 0 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6 + 2 / 7 + 2 / 8 + 3 / 9 + 4 / 10) / 10
    assert found["aurc"][0] == pytest.approx(aurc)
    # Trapezoids of 0 0 0 .1 .1 .1 .1 .2 .2 .3 .4 at steps of a tenth.
    assert found["augrc"][0] == pytest.approx((0.1 + 0.1 + 0.1 + 0.1 + 0.2 + 0.2 + 0.3 + 0.4 / 2) * 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_augrc_is_its_closed_form_also_with_ties(seed):
    generator = np.random.default_rng(seed)
    sure = generator.integers(0, 15, 200) / 15
    wrong = generator.uniform(size=200) > 0.4 + sure / 2
    accuracy, auc = 1 - wrong.mean(), roc_auc_score(~wrong, sure)
    # The closed form of Traub et al. 2024.
    expected = (1 - auc) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert subject.areas(wrong, sure)(np.ones((1, 200)))["augrc"][0] == pytest.approx(expected, abs=1e-12)


def test_aurc_of_ties_is_the_mean_over_their_orders():
    wrong, sure = np.array([1, 0, 0, 1, 0], dtype=bool), np.array([0.9, 0.9, 0.9, 0.5, 0.5])
    values = []
    for first, second in itertools.product(itertools.permutations(range(3)), itertools.permutations((3, 4))):
        above = np.cumsum(wrong[[*first, *second]])
        values.append((above / np.arange(1, 6)).mean())
    assert subject.areas(wrong, sure)(np.ones((1, 5)))["aurc"][0] == pytest.approx(np.mean(values))


def test_weights_are_images_that_stand_there_more_than_once():
    weights = np.array([2, 0, 1, 1, 3, 0, 1, 1, 2, 0])
    rows = np.repeat(np.arange(10), weights)
    twice = subject.areas(WRONG, SURE)(weights[None].astype(float))
    again = subject.areas(WRONG[rows], SURE[rows])(np.ones((1, rows.size)))
    assert twice["aurc"] == pytest.approx(again["aurc"])
    assert twice["augrc"] == pytest.approx(again["augrc"])


def test_confidence_of_two_images():
    given = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    assert subject.confidence(given, "highest") == pytest.approx([0.5, 1])
    assert subject.confidence(given, "margin") == pytest.approx([0.2, 1])
    entropy = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2))
    assert subject.confidence(given, "entropy") == pytest.approx([-entropy, 0])


def test_a_share_is_kept_and_ties_with_it():
    assert subject.threshold_keeping(SURE, 0.8) == SURE[7]
    assert subject.threshold_keeping(SURE, 1.0) == SURE[9]
    assert (np.array([0.9, 0.5, 0.5, 0.5]) >= subject.threshold_keeping(np.array([0.9, 0.5, 0.5, 0.5]), 0.5)).all()


def test_accuracy_at_coverage_on_ten_rows(made):
    labels = WRONG.astype(int)
    test = made.part(labels, np.stack([SURE, 1 - SURE], axis=1))
    val = made.part([0, 1, 0, 1, 0], np.stack([np.array([0.97, 0.9, 0.8, 0.7, 0.6])] * 2, axis=1) * [1, 0] + [0, 0.01])
    answer = subject.selective(made.cell(test, val), SETTINGS, None)
    assert answer.columns["selective_accuracy_80"].value == pytest.approx(6 / 8)
    assert answer.columns["selective_accuracy_90"].value == pytest.approx(6 / 9)
    assert answer.columns["selective_accuracy_95"].value == pytest.approx(6 / 10)
    rows = [row for row in answer.tables["kept"] if row["chosen_on"] == "validation"]
    # Four of the five validation images lie at 0.7 or above; so do six of the ten test images, one of them wrong.
    at = SURE >= 0.7
    assert rows[0]["coverage"] == pytest.approx(at.mean())
    assert rows[0]["accuracy"] == pytest.approx(1 - WRONG[at].mean())
    curve = answer.tables["curve"]
    assert [row["risk"] for row in curve] == pytest.approx(np.cumsum(WRONG) / np.arange(1, 11))
    assert [row["generalized_risk"] for row in curve] == pytest.approx(np.cumsum(WRONG) / 10)


def test_a_metric_without_errors_validation_or_a_second_class_says_so(made):
    test = made.part([0] * 20, np.tile([0.9, 0.1], (20, 1)))
    answer = subject.selective(made.cell(test), SETTINGS, None)
    assert answer.columns["selective_aurc"].value == 0
    assert answer.columns["selective_aurc"].low is None
    assert answer.columns["selective_accuracy_90"].low < 0.9
    for reason in ("no test image is misclassified", "no validation predictions", "one class only (a)"):
        assert any(reason in note for note in answer.notes)
    assert {row["chosen_on"] for row in answer.tables["kept"]} == {"test"}


def test_intervals_hold_the_metrics(made):
    answer = subject.selective(made.cell(made.drawn(1, 300), made.drawn(2, 100)), SETTINGS, None)
    for estimate in answer.columns.values():
        assert estimate.low < estimate.value < estimate.high
    with pytest.raises(ValueError, match="coverages"):
        subject.SelectiveSettings(coverages=(0.0,))
