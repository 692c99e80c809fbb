"""The analysis `robustness` on a made-up cell, and its ratios by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.analyses.corruptions.errors import Errors
from bench.analyses.corruptions.robustness import corruptions_for, robustness
from bench.analyses.corruptions.settings import SPEC, RobustnessSettings
from bench.core.errors import UserError

SETTINGS = RobustnessSettings(
    images=30, resamples=100, attack_images=12, attack_steps=5, l2=(0.0, 3.0), linf=(0.0, 0.1)
)


@pytest.fixture(scope="module")
def cell(made_up_cell):
    return made_up_cell("brain")


@pytest.fixture(scope="module")
def answer(cell, tmp_path_factory):
    assert SPEC.load() is robustness
    return robustness(cell, SETTINGS, tmp_path_factory.mktemp("robustness"))


def test_every_corruption_and_severity_has_its_metrics(answer):
    rows = answer.tables["corruptions"]
    assert len(rows) == 1 + 9 * 5
    assert {row["corruption"] for row in rows} == {"clean", *corruptions_for("brain", "kind")}
    for row in rows:
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
        assert 0 <= row["ece"] <= 1
    assert rows[0]["accuracy"] > 0.6


def test_the_columns_are_those_of_the_table(answer):
    rows = answer.tables["corruptions"]
    mean = np.mean([row["accuracy"] for row in rows[1:]])
    clean = rows[0]["accuracy"]
    assert answer.columns["robustness_accuracy"].value == pytest.approx(mean)
    assert answer.columns["robustness_drop"].value == pytest.approx(clean - mean)
    assert answer.columns["robustness_relative_drop"].value == pytest.approx(1 - mean / clean)
    assert all(name.startswith("robustness_") for name in answer.columns)


def test_attacks_at_radius_zero_cost_nothing_and_at_a_large_one_much(answer):
    by_radius = {(row["norm"], row["radius"]): row["accuracy"] for row in answer.tables["attacks"]}
    assert by_radius["l2", 0.0] == by_radius["linf", 0.0] > 0.5
    assert by_radius["l2", 3.0] < by_radius["l2", 0.0]
    assert by_radius["linf", 0.1] < 0.5 * by_radius["linf", 0.0]
    assert answer.columns["robustness_pgd_linf"].value == by_radius["linf", 0.1]


def test_the_same_settings_give_the_same_answer(answer, cell, tmp_path):
    again = robustness(cell, SETTINGS, tmp_path)
    assert (again.columns, again.tables, again.notes) == (answer.columns, answer.tables, answer.notes)


def test_one_image_is_shown_under_every_corruption(answer):
    (path,) = answer.files.values()
    with Image.open(path) as sheet:
        assert sheet.size == (6 * 32, 9 * (32 + 14))


def test_against_itself_every_corruption_error_is_one(answer, cell, tmp_path):
    baseline = {row["corruption"]: row["error"] for row in answer.tables["errors"]}
    again = robustness(cell, SETTINGS.model_copy(update={"baseline": baseline}), tmp_path)
    assert again.columns["robustness_mce"].value == pytest.approx(1)
    assert all(row["ce"] == pytest.approx(1) for row in again.tables["errors"][1:])
    lacking = {name: error for name, error in baseline.items() if name != "motion"}
    with pytest.raises(UserError, match="lacks the error of 'motion'"):
        robustness(cell, SETTINGS.model_copy(update={"baseline": lacking}), tmp_path)
    with pytest.raises(UserError, match="one divides by it"):
        robustness(cell, SETTINGS.model_copy(update={"baseline": baseline | {"crop": 0.0}}), tmp_path)


def test_a_plain_model_of_the_run_answers_on_the_same_corrupted_images(answer, cell, tmp_path):
    """Against a copy of itself every ratio is 1; against one that is always wrong it is the error itself."""
    twin = SimpleNamespace(spec=SimpleNamespace(model="plain"), predictor=cell.predictor)
    labels = answer.tables["corruptions"]
    lone = SimpleNamespace(**{**vars(cell), "spec": SimpleNamespace(model="m"), "beside": lambda field: [twin]})
    settings = SETTINGS.model_copy(update={"against": "plain", "attack_images": 1, "attack_steps": 1})
    found = robustness(lone, settings, tmp_path)
    assert found.columns["robustness_mce"].value == pytest.approx(1)
    assert found.columns["robustness_relative_mce"].value == pytest.approx(1)
    assert found.columns["robustness_ece"].value == pytest.approx(np.mean([row["ece"] for row in labels[1:]]))
    twin.predictor = SimpleNamespace(of_images=lambda images: np.eye(4)[[3] * len(images)])
    wrong = robustness(lone, settings, tmp_path)
    share = np.mean(cell.predictions().labels != 3)
    assert wrong.columns["robustness_mce"].value == pytest.approx(
        (1 - found.columns["robustness_accuracy"].value) / share, rel=0.2
    )
    with pytest.raises(UserError, match="no finished cell of 'other'"):
        robustness(lone, settings.model_copy(update={"against": "other"}), tmp_path)
    with pytest.raises(UserError, match="give one of them"):
        robustness(lone, settings.model_copy(update={"baseline": {"clean": 0.1}}), tmp_path)


def errors():
    corrupted = np.array([[0.2, 0.4, 1.0, 0.4], [0.0, 0.0, 1.0, 1.0]])
    groups = np.array(["", "", "", ""])
    return Errors(("a", "b"), corrupted, np.array([0.0, 0.0, 1.0, 0.0]), groups, SETTINGS)


def test_the_ratios_by_hand():
    """Errors 0.5 and 0.5, clean 0.25."""
    own = errors().columns({})
    assert own["robustness_mce"].value == pytest.approx(2)
    assert own["robustness_drop"].value == pytest.approx(0.25)
    assert own["robustness_relative_drop"].value == pytest.approx(1 / 3)
    other = errors().columns({"clean": 0.1, "a": 0.5, "b": 0.3})
    assert other["robustness_mce"].value == pytest.approx((0.5 / 0.5 + 0.5 / 0.3) / 2)
    assert other["robustness_relative_mce"].value == pytest.approx((0.25 / 0.4 + 0.25 / 0.2) / 2)


def test_a_model_without_clean_errors_has_no_ratio_to_them():
    perfect = replace(errors(), clean=np.zeros(4))
    assert perfect.columns({})["robustness_mce"].value is None
    assert perfect.rows({})[1]["ce"] is None
    assert perfect.columns({})["robustness_drop"].value == pytest.approx(0.5)


def test_a_predictor_without_a_network_is_not_attacked_and_says_so(made_up_cell, tmp_path):
    cell = made_up_cell("skin", with_network=False, epochs=2)
    found = robustness(cell, SETTINGS.model_copy(update={"images": 12}), tmp_path)
    assert found.tables["attacks"] == []
    assert "robustness_pgd_l2" not in found.columns
    assert any("not attacked" in note for note in found.notes)
    assert len(found.tables["corruptions"]) == 1 + 16 * 5


def test_a_kind_without_corruptions_names_the_setting():
    with pytest.raises(UserError, match="modality=mri"):
        corruptions_for("other", "kind")
    assert "rician_noise" in corruptions_for("other", "mri")
