"""Calibration against loops in float64, scipy's minimizer, a hand-made isotonic regression and a simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bench.analyses import calibration as subject
from bench.analyses.support.calibrators import fit_isotonic, fit_temperature, temperature_estimate
from bench.analyses.support.intervals import resample
from bench.measure.quality import quality

SETTINGS = subject.CalibrationSettings(resamples=300)


def slow_log_loss(labels, logits, temperature):
    total = 0.0
    for label, row in zip(labels, logits, strict=True):
        total += math.log(sum(math.exp((value - row[label]) / temperature) for value in row))
    return total / len(labels)


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 3.0), (3, 0.5), (5, 2.0)])
def test_the_temperature_is_the_minimum_of_the_log_loss(made, classes, sharpness):
    given = made.drawn(3, 400, classes, sharpness)
    logits = np.log(given.probabilities)
    best = minimize_scalar(lambda t: slow_log_loss(given.labels, logits, t), bounds=(0.05, 20), method="bounded",
                           options={"xatol": 1e-9})  # fmt: skip
    fitted = fit_temperature(given.labels, given.probabilities)
    assert fitted.value == pytest.approx(best.x, rel=1e-5)
    assert fitted.value == pytest.approx(sharpness, rel=0.25)
    expected = made.softmax(logits / fitted.value)
    assert fitted.apply(given.probabilities) == pytest.approx(expected, abs=1e-12)


def test_the_temperatures_interval_is_as_wide_as_refits_on_drawn_patients(made):
    given = made.drawn(4, 600, 3, 2.0, per_group=3)
    found = temperature_estimate(
        fit_temperature(given.labels, given.probabilities), given.labels, given.probabilities, given.groups
    )
    generator, refits = np.random.default_rng(0), []
    for _ in range(200):
        rows = (generator.integers(0, 200, 200)[:, None] * 3 + np.arange(3)).ravel()
        refits.append(math.log(fit_temperature(given.labels[rows], given.probabilities[rows]).value))
    assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * np.std(refits), rel=0.2)
    assert found.low < 2.0 < found.high


def test_no_temperature_is_best_where_every_image_is_right_or_a_guess_is_better():
    sure = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(np.array([0, 1]), sure) is None
    assert fit_temperature(np.array([1, 0]), sure) is None


def pooled(values):
    """Isotonic regression by its max-min formula."""
    n = len(values)
    return [max(min(np.mean(values[i : j + 1]) for j in range(at, n)) for i in range(at + 1)) for at in range(n)]


def test_isotonic_regression_is_the_max_min_formula(made):
    given = made.drawn(5, 60, 3, 2.0)
    fitted = fit_isotonic(given.labels, given.probabilities)
    expected = np.empty((60, 3))
    for index in range(3):
        order = np.argsort(given.probabilities[:, index])
        expected[order, index] = pooled((given.labels == index)[order].astype(float))
    expected /= expected.sum(axis=1, keepdims=True)
    assert fitted.apply(given.probabilities) == pytest.approx(expected, abs=1e-9)


def test_isotonic_regression_of_two_classes_is_one_map_and_a_row_of_zeros_is_spread(made):
    given = made.drawn(6, 50, 2, 2.0)
    found = fit_isotonic(given.labels, given.probabilities).apply(given.probabilities)
    order = np.argsort(given.probabilities[:, 1])
    assert found[order, 1] == pytest.approx(pooled((given.labels == 1)[order].astype(float)), abs=1e-9)
    assert found.sum(axis=1) == pytest.approx(1)
    zeros = type(fit_isotonic(given.labels, given.probabilities))(((np.array([0.0, 1.0]), np.zeros(2)),) * 3)
    assert zeros.apply(np.full((1, 3), 1 / 3)) == pytest.approx(np.full((1, 3), 1 / 3))
    assert fit_isotonic(np.zeros(4, dtype=np.int64), np.full((4, 3), 1 / 3)) is None


def slow_errors(confidences, hits):
    """ECE in 15 equal widths, and the debiased square in bins of equally many, image by image."""
    ece, square = 0.0, 0.0
    n = len(hits)
    for number in range(15):
        mine = [i for i in range(n) if number / 15 < confidences[i] <= (number + 1) / 15]
        ece += abs(sum(confidences[i] - hits[i] for i in mine)) / n
    edges = [-math.inf, *np.quantile(confidences, [b / 15 for b in range(1, 15)]), math.inf]
    for low, high in itertools.pairwise(edges):
        mine = [i for i in range(n) if low < confidences[i] <= high]
        if not mine:
            continue
        share, mean = sum(hits[i] for i in mine) / len(mine), sum(confidences[i] for i in mine) / len(mine)
        noise = share * (1 - share) / (len(mine) - 1) if len(mine) > 1 else 0.0
        square += len(mine) / n * ((mean - share) ** 2 - noise)
    return ece, square


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_a_loop_and_of_the_result_table(made, seed):
    given = made.drawn(seed, 220, 4, 1.7)
    top, right = given.probabilities.max(axis=1), given.probabilities.argmax(axis=1) == given.labels
    found = subject.binned_errors(top, right, np.full(220, ""))(np.ones((1, 220)))
    ece, square = slow_errors(top.tolist(), right.tolist())
    assert found["ece"][0] == pytest.approx(ece, abs=1e-12)
    assert found["debiased"][0] == pytest.approx(square, abs=1e-12)
    columns = quality(given.labels, given.probabilities, given.classes)
    answer = subject.calibration(made.cell(given), SETTINGS, None)
    assert answer.columns["calibration_ece"].value == pytest.approx(columns["ece"], abs=1e-12)
    assert answer.columns["calibration_log_loss"].value == pytest.approx(columns["log_loss"], abs=1e-12)
    assert answer.columns["calibration_root_brier"].value == pytest.approx(math.sqrt(columns["brier"]), abs=1e-12)


def test_weights_are_images_that_stand_there_more_than_once(made):
    given = made.drawn(9, 80, 3, 2.0)
    weights = np.random.default_rng(2).integers(0, 3, 80)
    top, right = given.probabilities.max(axis=1), given.probabilities.argmax(axis=1) == given.labels
    rows = np.repeat(np.arange(80), weights)
    once = subject.binned_errors(top, right, given.groups)(weights[None].astype(float))
    assert once["ece"][0] == pytest.approx(slow_errors(top[rows].tolist(), right[rows].tolist())[0], abs=1e-12)


@pytest.mark.parametrize("copies", [1, 3])
def test_the_debiased_error_of_a_calibrated_model_is_zero_on_average_and_the_plain_one_is_not(made, copies):
    squares, plain = [], []
    for seed in range(200):
        given = made.drawn(seed + 100, 300 // copies, 3)
        rows = np.repeat(np.arange(300 // copies), copies)
        top, right = given.probabilities.max(axis=1), given.probabilities.argmax(axis=1) == given.labels
        found = subject.binned_errors(top[rows], right[rows], given.groups[rows])(np.ones((1, 300)))
        squares.append(found["debiased"][0])
        plain.append(found["plugin"][0])
    # What is taken away is the noise of 20 images a bin, or of 7 where images are copies of each other.
    assert np.mean(plain) > 0.006 * copies
    assert abs(np.mean(squares)) < 4 * np.std(squares) / math.sqrt(200) + 1e-4


def test_the_noise_of_a_bin_of_groups_is_the_clustered_variance_of_a_loop():
    generator = np.random.default_rng(0)
    names = np.repeat([f"p{n}" for n in range(20)], generator.integers(1, 5, 20))
    hits, bins = generator.uniform(size=names.size) < 0.7, generator.integers(0, 2, names.size)
    found = subject._bin_noise(np.eye(2)[bins], hits, names)(np.ones((1, names.size)))[0]
    for number in range(2):
        mine = bins == number
        share, patients = hits[mine].mean(), np.unique(names[mine])
        squares = sum((hits[mine & (names == name)] - share).sum() ** 2 for name in patients)
        expected = squares / mine.sum() ** 2 * patients.size / (patients.size - 1)
        assert found[number] == pytest.approx(expected)


def test_the_debiased_interval_covers_the_square_it_estimates():
    generator, covered = np.random.default_rng(3), 0
    for _ in range(100):
        confidences = np.repeat([0.6, 0.8, 0.95], 150)
        hits = generator.uniform(size=450) < confidences - 0.1
        alone = np.full(450, "")
        drawn = resample(subject.binned_errors(confidences, hits, alone), alone, SETTINGS)
        found = drawn.debiased("debiased", "plugin")
        covered += found.low <= 0.01 <= found.high
    assert covered >= 88


def test_calibrators_mend_a_model_that_is_too_sure(made):
    cell = made.cell(made.drawn(1, 500, 3, 3.0), made.drawn(2, 500, 3, 3.0))
    answer = subject.calibration(cell, SETTINGS, None)
    columns = answer.columns
    assert columns["calibration_temperature"].low < 3 < columns["calibration_temperature"].high
    assert columns["calibration_log_loss_temperature_change"].high < 0
    for metric in ("ece", "debiased", "root_brier", "log_loss"):
        for name in ("temperature", "isotonic"):
            assert columns[f"calibration_{metric}_{name}"].value < columns[f"calibration_{metric}"].value
    assert {row["calibrator"] for row in answer.tables["by_class"]} == {"none", "temperature", "isotonic"}
    top = [row for row in answer.tables["reliability"] if row["of"] == "decision" and row["calibrator"] == "none"]
    assert sum(row["images"] for row in top) == 500
    assert all(
        row["from"] < row["confidence"] <= row["to"] and row["low"] <= row["share"] <= row["high"] for row in top
    )


def test_a_temperature_says_nothing_where_validation_cannot(made):
    test = made.drawn(1, 60)
    for val, reason in [
        (None, "no validation predictions: the cell has no validation part"),
        (made.part([0, 0, 0], np.full((3, 3), 1 / 3)), "the validation set holds one class only (a): no calibrator"),
        (made.part([], np.empty((0, 3))), "the validation part is empty"),
        (made.part([0, 1], [[0.9, 0.1, 0], [0.1, 0.9, 0]]), "no finite temperature is best on validation"),
    ]:
        answer = subject.calibration(made.cell(test, val), SETTINGS, None)
        assert answer.columns["calibration_temperature"].value is None
        assert "calibration_ece_temperature" not in answer.columns
        assert any(reason in note for note in answer.notes)
        assert answer.columns["calibration_ece"].value is not None


def test_a_test_set_of_one_class_or_one_patient_gives_no_false_value(made):
    val = made.drawn(2, 60)
    one = made.part([1] * 20, made.drawn(3, 20).probabilities)
    answer = subject.calibration(made.cell(one, val), SETTINGS, None)
    assert {estimate.value for name, estimate in answer.columns.items() if name != "calibration_temperature"} == {None}
    assert any("the test set holds one class only (b)" in note for note in answer.notes)
    patient = made.part(val.labels, val.probabilities, ["p"] * 60)
    found = subject.calibration(made.cell(patient, val), SETTINGS, None)
    assert found.columns["calibration_ece"].low is None
    assert any("belong to the group p" in note for note in found.notes)


def test_an_interval_below_zero_is_no_certainty_of_zero():
    # Five bins whose shares are exactly their confidences: far better than chance allows, so every square is negative.
    confidences = np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 40)
    hits = np.concatenate([np.arange(40) < 40 * share for share in (0.1, 0.3, 0.5, 0.7, 0.9)])
    alone = np.full(200, "")
    found = resample(subject.binned_errors(confidences, hits, alone), alone, SETTINGS)
    assert found.values["debiased"] < 0
    assert found.debiased("debiased", "plugin").high < 0
    assert subject._estimate(found, "debiased") == subject.Estimate(0.0)


def test_the_temperatures_interval_is_the_sandwich_of_a_loop(made):
    given = made.drawn(8, 36, 3, 2.0, per_group=3)
    fitted = fit_temperature(given.labels, given.probabilities)
    logits, step, inverse = np.log(given.probabilities), 1e-4, 1 / fitted.value

    def loss(row, label, at):
        return math.log(sum(math.exp(at * (value - row[label])) for value in row))

    sums, curvature = {}, 0.0
    for row, label, name in zip(logits, given.labels, given.groups, strict=True):
        low, mid, high = (loss(row, label, inverse + move) for move in (-step, 0, step))
        sums[name] = sums.get(name, 0.0) + (high - low) / (2 * step)
        curvature += (high - 2 * mid + low) / step**2
    error = math.sqrt(sum(value**2 for value in sums.values()) * 12 / 11) / curvature / inverse
    found = temperature_estimate(fitted, given.labels, given.probabilities, given.groups)
    assert found.high == pytest.approx(fitted.value * math.exp(1.959964 * error), rel=1e-4)
    assert found.low == pytest.approx(fitted.value * math.exp(-1.959964 * error), rel=1e-4)
