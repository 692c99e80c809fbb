"""Conformal sets against a loop in float64, and their promise against simulations."""

import math

import numpy as np
import pytest

from bench.analyses import conformal as subject
from bench.analyses.support.conformal_sets import (
    aps_scores,
    conformal_quantile,
    lac_scores,
    prediction_sets,
    thresholds,
)

SETTINGS = subject.ConformalSettings(resamples=200)


def test_the_quantile_is_the_promised_rank():
    scores = np.array([0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.6, 0.8, 0.7])
    assert conformal_quantile(scores, 0.1) == 0.9  # rank ceil(10 * 0.9) = 9
    assert conformal_quantile(scores, 0.3) == 0.7
    assert conformal_quantile(scores[:8], 0.1) == math.inf  # rank 9 of 8
    assert conformal_quantile(np.empty(0), 0.1) == math.inf


def test_aps_scores_are_the_mass_above_and_a_share_of_ones_own():
    given = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    found = aps_scores(given, np.array([1.0, 0.5]))
    assert found[0] == pytest.approx([1.0, 0.5, 0.8])
    assert found[1] == pytest.approx([0.2, 0.6, 0.9])


@pytest.mark.parametrize("per_class", [False, True])
def test_sets_are_those_of_a_loop(made, per_class):
    val, test = made.drawn(1, 150, 3), made.drawn(2, 80, 3)
    limits = thresholds(val.labels, lac_scores(val.probabilities), 0.1, per_class)
    sets = prediction_sets(lac_scores(test.probabilities), limits)
    for image, row in enumerate(test.probabilities.tolist()):
        for index, share in enumerate(row):
            own = [1 - val.probabilities[i, val.labels[i]] for i in range(150)
                   if not per_class or val.labels[i] == index]  # fmt: skip
            at = math.ceil((len(own) + 1) * 0.9)
            assert sets[image, index] == (1 - share <= sorted(own)[at - 1])


@pytest.mark.parametrize(("score", "per_class"), [("lac", False), ("lac", True), ("aps", False), ("aps", True)])
def test_sets_cover_as_promised_whatever_the_model_is(made, score, per_class):
    covered, by_class = [], [[], [], []]
    for seed in range(150):
        # A model that is far too sure: the promise is the method's, not the model's.
        drawn = made.drawn(seed, 400, 3, sharpness=4.0)
        uniform = np.random.default_rng(seed).uniform(size=400)
        scores = lac_scores(drawn.probabilities) if score == "lac" else aps_scores(drawn.probabilities, uniform)
        limits = thresholds(drawn.labels[:100], scores[:100], 0.2, per_class)
        hit = prediction_sets(scores[100:], limits)[np.arange(300), drawn.labels[100:]]
        covered.append(hit.mean())
        for index in range(3):
            by_class[index].append(hit[drawn.labels[100:] == index].mean())
    error = np.std(covered) / math.sqrt(150)
    assert 0.8 - 4 * error <= np.mean(covered) <= 0.8 + (1 / 25 if per_class else 1 / 101) + 4 * error
    if per_class:
        assert min(np.mean(found) for found in by_class) >= 0.79


def test_the_answer_counts_what_is_covered(made):
    val, test = made.drawn(1, 300, 3), made.drawn(2, 240, 3, per_group=2)
    sites = np.where(np.arange(240) < 225, "north", "south")
    test = made.part(test.labels, test.probabilities, test.groups, sites)
    answer = subject.conformal(made.cell(test, val), SETTINGS, None)
    sets = prediction_sets(
        lac_scores(test.probabilities), thresholds(val.labels, lac_scores(val.probabilities), 0.1, True)
    )
    hit = sets[np.arange(240), test.labels]
    columns = answer.columns
    assert columns["conformal_lac_coverage"].value == pytest.approx(hit.mean())
    assert columns["conformal_lac_size"].value == pytest.approx(sets.sum(axis=1).mean())
    assert columns["conformal_lac_single"].value == pytest.approx((sets.sum(axis=1) == 1).mean())
    classes = [hit[test.labels == index].mean() for index in range(3)]
    assert columns["conformal_lac_worst_class_coverage"].value == pytest.approx(min(classes))
    assert columns["conformal_lac_coverage"].low < hit.mean() < columns["conformal_lac_coverage"].high
    rows = {(row["by"], row["value"]): row for row in answer.tables["coverage"] if row["score"] == "lac"}
    assert [rows["class", name]["coverage"] for name in "abc"] == pytest.approx(classes)
    assert rows["all", "whole groups"]["coverage"] == pytest.approx(hit.reshape(120, 2).all(axis=1).mean())
    assert rows["site", "north"]["coverage"] == pytest.approx(hit[:225].mean())
    assert rows["site", "south"]["images"] == 15
    assert rows["site", "south"]["coverage"] is None
    sizes = [row["images"] for row in answer.tables["sizes"] if row["score"] == "lac"]
    assert sizes == np.bincount(sets.sum(axis=1), minlength=4).tolist()


def test_sets_without_randomization_are_larger(made):
    cell = made.cell(made.drawn(2, 200, 4), made.drawn(1, 200, 4))
    sizes = [
        subject.conformal(cell, subject.ConformalSettings(resamples=100, randomized=kind), None)
        .columns["conformal_aps_size"].value
        for kind in (True, False)
    ]  # fmt: skip
    assert sizes[0] < sizes[1]


def test_a_class_with_too_few_validation_images_is_in_every_set_and_said(made):
    val = made.drawn(1, 60, 2)
    few = made.part(np.r_[val.labels, [2] * 5], np.r_[np.c_[val.probabilities, np.zeros(60)], np.eye(3)[[2] * 5]])
    answer = subject.conformal(made.cell(made.drawn(2, 50), few), SETTINGS, None)
    assert "5 validation images of c are too few: it is in every set" in answer.notes
    limits = {(row["score"], row["class"]): row["threshold"] for row in answer.tables["thresholds"]}
    assert limits["lac", "c"] is None
    assert limits["lac", "a"] is not None


def test_without_validation_or_with_one_class_there_are_no_sets(made):
    test = made.drawn(2, 50)
    for val, reason in [(None, "no validation predictions"), (made.part([1, 1], np.eye(3)[[1, 1]]), "one class only")]:
        answer = subject.conformal(made.cell(test, val), SETTINGS, None)
        assert {estimate.value for estimate in answer.columns.values()} == {None}
        assert any(reason in note for note in answer.notes)
    one = subject.conformal(made.cell(made.part([0] * 50, test.probabilities), made.drawn(1, 50)), SETTINGS, None)
    assert any("the test set holds one class only" in note for note in one.notes)
    with pytest.raises(ValueError, match="miss"):
        subject.ConformalSettings(miss=0)
