"""Decisions by hand on ten rows, Bayes' rule by hand, and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_curve

from bench.analyses import decisions as subject
from bench.analyses.support.operating import (
    predictive_value,
    rates,
    threshold_for_sensitivity,
    threshold_for_specificity,
)
from bench.analyses.support.utility import average_precision, cheapest, cost_matrix, expected_cost, net_benefit
from bench.core.errors import UserError

SETTINGS = subject.DecisionsSettings(resamples=200)
ONCE = np.ones((1, 10))
# Ten rows, by falling probability: cases are 1.
CASES = np.array([1, 1, 0, 1, 0, 0, 1, 0, 0, 0], dtype=bool)
SCORES = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_net_benefit_on_ten_rows():
    found = net_benefit(CASES, SCORES, (0.5, 0.75, 0.2))(ONCE)
    # At 0.5, six are treated, three of them cases: 3/10 - 3/10 * 1. At 0.75: 2/10 - 1/10 * 3. At 0.2: 4/10 - 5/10 / 4.
    assert found["model 0.5"][0] == pytest.approx(0.0)
    assert found["model 0.75"][0] == pytest.approx(-0.1)
    assert found["model 0.2"][0] == pytest.approx(0.275)
    assert found["all 0.2"][0] == pytest.approx(0.4 - 0.6 / 4)
    assert found["all 0.75"][0] == pytest.approx(0.4 - 0.6 * 3)


def test_expected_cost_on_ten_rows():
    costs = cost_matrix({"case>well": 5, "well>case": 2}, ("well", "case"))
    assert costs.tolist() == [[0, 2], [5, 0]]
    predicted = (SCORES > 0.65).astype(np.int64)
    found = expected_cost(CASES.astype(np.int64), {"cost": predicted}, costs)(ONCE)
    # One case of four is missed (5), one of six well is called (2); calling everybody costs 12, nobody 20.
    assert found["cost"][0] == pytest.approx(0.7)
    assert found["cost normalized"][0] == pytest.approx(7 / 12)


def test_a_star_is_any_other_class_and_a_name_wins_over_it():
    found = cost_matrix({"m>n": 4, "m>*": 10, "*>b": 3}, ("m", "n", "b"))
    assert found.tolist() == [[0, 4, 3], [1, 0, 3], [1, 1, 0]]


@pytest.mark.parametrize(
    ("costs", "reason"), [({"x>n": 1}, "expected TRUE>PREDICTED"), ({"n>n": 1}, "a right decision costs nothing"),
                          ({"n": 1}, "expected TRUE>PREDICTED")]
)  # fmt: skip
def test_a_cost_of_no_pair_is_refused(costs, reason):
    with pytest.raises(UserError, match=reason):
        cost_matrix(costs, ("m", "n"))


def test_the_cheapest_decision_is_bayes_rule():
    costs = cost_matrix({"case>well": 9}, ("well", "case"))
    # A case missed weighs nine false alarms: treated from one in ten on; exactly there both cost 0.9.
    shares = np.array([[0.95, 0.05], [0.89, 0.11], [0.2, 0.8]])
    assert cheapest(shares, costs).tolist() == [0, 1, 1]


def test_average_precision_is_scikit_learns_with_ties_and_weights():
    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 12, 90) / 12, generator.uniform(size=90) < 0.3
    weights = generator.integers(0, 4, (5, 90)).astype(float)
    found = average_precision(positive, scores)(weights)["ap"]
    expected = [average_precision_score(positive, scores, sample_weight=row) for row in weights]
    assert found == pytest.approx(expected, abs=1e-12)


def test_thresholds_reach_the_fixed_rate_and_no_better_one_does():
    generator = np.random.default_rng(4)
    positive = generator.uniform(size=200) < 0.3
    scores = np.round(generator.normal(positive, 1), 1)
    alarms, found, _ = roc_curve(positive, scores, drop_intermediate=False)
    at = threshold_for_specificity(positive, scores, 0.9)
    assert (scores[~positive] < at).mean() >= 0.9
    assert (scores[positive] >= at).mean() == pytest.approx(max(found[alarms <= 0.1 + 1e-12]))
    at = threshold_for_sensitivity(positive, scores, 0.9)
    assert (scores[positive] >= at).mean() >= 0.9
    assert (scores[~positive] >= at).mean() == pytest.approx(min(alarms[found >= 0.9 - 1e-12]))


def test_thresholds_on_ten_rows():
    assert threshold_for_specificity(CASES, SCORES, 0.8) == 0.7
    assert threshold_for_specificity(CASES, SCORES, 1.0) == 0.9
    assert threshold_for_sensitivity(CASES, SCORES, 0.75) == 0.7
    assert threshold_for_sensitivity(CASES, SCORES, 0.8) == 0.4
    # The well image lies above the case: only the threshold that calls nobody leaves it alone.
    assert threshold_for_specificity(np.array([True, False]), np.array([0.2, 0.7]), 0.9) > 0.7
    assert threshold_for_specificity(np.ones(3, bool), SCORES[:3], 0.9) is None
    assert threshold_for_sensitivity(np.zeros(3, bool), SCORES[:3], 0.9) is None


def test_predictive_values_by_bayes_rule():
    # A thousand people, ten ill, nine found; of 990 well 99 called: 9 of 108, and 891 of 892 rightly left alone.
    assert predictive_value(0.9, 0.9, 0.01) == pytest.approx(9 / 108)
    assert predictive_value(0.9, 0.9, 0.99) == pytest.approx(891 / 892)
    assert predictive_value(0.0, 1.0, 0.1) is None
    assert predictive_value(None, 0.9, 0.1) is None
    called = SCORES >= 0.65
    found = rates(CASES, called, np.full(10, ""), 0.01)
    assert (found.sensitivity.value, found.specificity.value) == (0.75, pytest.approx(5 / 6))
    assert found.ppv.value == pytest.approx(0.0075 / (0.0075 + 0.99 / 6))
    assert found.npv.value == pytest.approx(0.825 / (0.825 + 0.0025))
    own = rates(CASES, called, np.full(10, ""), 0.4)
    assert own.ppv.value == pytest.approx(3 / 4)
    assert own.npv.value == pytest.approx(5 / 6)


def test_a_predictive_values_interval_covers_the_truth():
    generator, covered = np.random.default_rng(8), 0
    truth = 0.8 * 0.1 / (0.8 * 0.1 + 0.1 * 0.9)
    positive = np.arange(150) < 60
    for _ in range(300):
        called = generator.uniform(size=150) < np.where(positive, 0.8, 0.1)
        found = rates(positive, called, np.full(150, ""), 0.1).ppv
        covered += found.low <= truth <= found.high
    assert covered / 300 >= 0.95


def test_operating_points_are_chosen_on_validation_and_measured_on_test(made):
    test, val = made.drawn(1, 300, 2), made.drawn(2, 200, 2)
    settings = subject.DecisionsSettings(resamples=200, classes=("b",), prevalence={"b": 0.02}, costs={"b>a": 10})
    answer = subject.decisions(made.cell(test, val), settings, None)
    rows = {row["chosen_for"]: row for row in answer.tables["operating_points"]}
    assert set(rows) == {"arg-max", "specificity 0.95", "sensitivity 0.95"}
    row = rows["specificity 0.95"]
    assert row["threshold"] in val.probabilities[:, 1]
    assert row["validation_specificity"] >= 0.95
    called, ill = test.probabilities[:, 1] >= row["threshold"], test.labels == 1
    assert answer.columns["decisions_sensitivity_b"].value == pytest.approx(called[ill].mean())
    assert row["specificity"] == pytest.approx((~called[~ill]).mean())
    ppv = answer.columns["decisions_ppv_b"]
    assert ppv.value == pytest.approx(predictive_value(row["sensitivity"], row["specificity"], 0.02))
    assert ppv.low < ppv.value < ppv.high
    assert row["prevalence_of"] == "stated"
    assert answer.columns["decisions_cost_bayes"].value < answer.columns["decisions_cost"].value
    assert not any("no costs are stated" in note for note in answer.notes)


def test_every_class_is_held_against_the_rest(made):
    test, val = made.drawn(1, 200, 3), made.drawn(2, 200, 3)
    answer = subject.decisions(made.cell(test, val), SETTINGS, None)
    for index, name in enumerate("abc"):
        expected = average_precision_score(test.labels == index, test.probabilities[:, index])
        found = answer.columns[f"decisions_average_precision_{name}"]
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.low < found.value < found.high
    wrong = (test.probabilities.argmax(axis=1) != test.labels).mean()
    assert answer.columns["decisions_cost"].value == pytest.approx(wrong)
    curve = [row for row in answer.tables["decision_curve"] if row["class"] == "c"]
    assert [row["threshold"] for row in curve] == sorted(SETTINGS.thresholds)
    assert next(row for row in curve if row["threshold"] == 0.01)["treat_all"] > 0
    assert all(row["low"] <= row["net_benefit"] <= row["high"] for row in curve if row["low"] is not None)


def test_what_cannot_be_measured_is_none_with_a_note(made):
    shares = made.drawn(1, 40).probabilities
    one = subject.decisions(made.cell(made.part([1] * 40, shares)), SETTINGS, None)
    assert one.columns["decisions_average_precision_a"].value is None
    assert one.columns["decisions_ppv_b"].value is None
    assert any("holds one class only (b)" in note for note in one.notes)
    missing = made.part([0, 1] * 20, shares)
    found = subject.decisions(made.cell(missing), SETTINGS, None)
    assert found.columns["decisions_net_benefit_c"].value is None
    assert found.columns["decisions_sensitivity_a"].value is None
    assert found.columns["decisions_average_precision_a"].value is not None
    assert any("no validation predictions" in note for note in found.notes)
    assert any("no test image of class c" in note for note in found.notes)
    assert {row["chosen_for"] for row in found.tables["operating_points"]} == {"arg-max"}


def test_a_class_that_the_data_set_lacks_is_refused(made):
    with pytest.raises(UserError, match="no class is called 'melanoma'; the data set has a, b, c"):
        subject.decisions(made.cell(made.drawn(1, 20)), subject.DecisionsSettings(classes=("melanoma",)), None)
    with pytest.raises(ValueError, match="less than 1"):
        subject.DecisionsSettings(prevalence={"a": 1.0})
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        subject.DecisionsSettings(costs={"a>b": -1})
