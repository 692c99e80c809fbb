"""Subgroups: hand counts, small ones left unsaid, and gaps that count the picking."""

import numpy as np
import pytest

from bench.analyses import subgroups as subject
from bench.analyses.support.characteristics import age_band, characteristics
from bench.core.errors import UserError

SETTINGS = subject.SubgroupsSettings(resamples=300)


def predicted(made, right, metadata=None, groups=None, sites=None, labels=None):
    labels = np.arange(len(right)) % 2 if labels is None else np.asarray(labels)
    calls = np.where(right, labels, 1 - labels)
    test = made.part(labels, np.where(calls == 1, 0.9, 0.1), groups, sites)
    return made.cell(test, None, {} if metadata is None else metadata)


@pytest.mark.parametrize(
    ("age", "band"),
    [("39.9", "20-39"), ("40", "40-59"), ("85", "80 and over"), ("0", "0-19"), ("", "unknown"), ("nan", "unknown"),
     ("-3", "unknown"), ("old", "unknown")],
)  # fmt: skip
def test_age_bands(age, band):
    assert age_band(age, (20, 40, 60, 80)) == band


def test_accuracy_by_sex_and_age_by_hand(made):
    sex = np.array(["f"] * 40 + ["m"] * 60 + ["unknown"] * 4)
    age = np.array((["30"] * 50) + (["70"] * 50) + ["nan"] * 4)
    right = np.ones(104, dtype=bool)
    right[[0, 1, 2, 3, 40, 41, 42, 43, 44, 45, 46, 47, 48, 50, 52]] = False
    answer = subject.subgroups(predicted(made, right, {"sex": sex, "age": age}), SETTINGS, None)
    rows = {(row["by"], row["group"]): row for row in answer.tables["groups"]}
    assert rows["sex", "f"]["accuracy"] == pytest.approx(36 / 40)
    assert rows["sex", "m"]["accuracy"] == pytest.approx(49 / 60)
    # Of the 30 even rows of the men 40, 42, 44, 46, 48, 50, 52 are wrong, of the 30 odd ones 41, 43, 45, 47.
    assert rows["sex", "m"]["balanced_accuracy"] == pytest.approx((23 / 30 + 26 / 30) / 2)
    assert rows["sex", "f"]["accuracy_low"] < 0.9 < rows["sex", "f"]["accuracy_high"]
    assert rows["sex", "unknown"]["accuracy"] is None
    assert rows["age", "20-39"]["accuracy"] == pytest.approx(37 / 50)
    assert answer.columns["subgroups_gap_sex"].value == pytest.approx(36 / 40 - 49 / 60)
    gap = next(row for row in answer.tables["gaps"] if row["by"] == "age" and row["metric"] == "accuracy")
    assert (gap["best"], gap["worst"]) == ("60-79", "20-39")
    assert gap["gap"] == pytest.approx(48 / 50 - 37 / 50)
    assert gap["low"] <= gap["gap"] <= gap["high"]
    assert answer.columns["subgroups_gap_anatomy"].value is None
    assert any(note.startswith("anatomy: not known") for note in answer.notes)


def test_a_small_subgroup_is_listed_and_neither_shown_nor_compared(made):
    sites = np.array(["a"] * 60 + ["b"] * 60 + ["c"] * 20 + ["d"] * 40)
    right = np.ones(180, dtype=bool)
    right[[0, 5, 60, 63, 65]] = False
    right[120:] = False
    # d has 40 images of 4 patients only.
    groups = np.array([f"p{n}" for n in range(140)] + [f"q{n % 4}" for n in range(40)])
    answer = subject.subgroups(predicted(made, right, None, groups, sites), SETTINGS, None)
    rows = {row["group"]: row for row in answer.tables["groups"] if row["by"] == "site"}
    assert (rows["c"]["images"], rows["c"]["groups"], rows["d"]["groups"]) == (20, 20, 4)
    for name in "cd":
        assert rows[name]["shown"] is False
        assert rows[name]["accuracy"] is None
        assert rows[name]["balanced_accuracy"] is None
    assert answer.columns["subgroups_gap_site"].value == pytest.approx(1 / 60)
    assert "site: too few test images to say anything of c, d" in answer.notes


def test_a_subgroup_with_four_images_of_a_class_has_no_balanced_accuracy(made):
    labels = np.r_[np.arange(40) < 4, np.arange(40) % 2].astype(int)
    right = np.arange(80) % 5 > 0
    answer = subject.subgroups(
        predicted(made, right, {"sex": np.repeat(["f", "m"], 40)}, labels=labels), SETTINGS, None
    )
    rows = {row["group"]: row for row in answer.tables["groups"]}
    assert rows["f"]["balanced_accuracy"] is None
    assert rows["m"]["balanced_accuracy"] == pytest.approx(0.8)
    assert answer.columns["subgroups_balanced_gap_sex"].value is None
    assert answer.columns["subgroups_gap_sex"].value == 0


def test_a_gap_among_equals_begins_at_zero_and_a_true_one_is_covered(made):
    generator, false_alarms, covered = np.random.default_rng(2), 0, 0
    sites = np.repeat(list("abcde"), 60)
    for _ in range(60):
        equal = predicted(made, generator.uniform(size=300) < 0.8, sites=sites)
        false_alarms += subject.subgroups(equal, SETTINGS, None).columns["subgroups_gap_site"].low > 0
        chances = np.where(sites == "e", 0.55, 0.85)
        found = subject.subgroups(predicted(made, generator.uniform(size=300) < chances, sites=sites), SETTINGS, None)
        covered += found.columns["subgroups_gap_site"].low <= 0.3 <= found.columns["subgroups_gap_site"].high
    assert false_alarms <= 7
    assert covered >= 54


def test_one_patient_or_a_perfect_subgroup_has_no_interval_and_one_class_is_said(made):
    answer = subject.subgroups(
        predicted(made, np.arange(80) % 5 > 0, None, ["p"] * 80, np.repeat(["a", "b"], 40)),
        subject.SubgroupsSettings(resamples=100, smallest_groups=2), None,
    )  # fmt: skip
    assert answer.columns["subgroups_gap_site"].value is None
    perfect = np.r_[np.ones(40, bool), np.arange(40) % 4 > 0]
    answer = subject.subgroups(predicted(made, perfect, sites=np.repeat(["a", "b"], 40)), SETTINGS, None)
    assert answer.columns["subgroups_gap_site"] == subject.Estimate(0.25)
    assert any(
        note.startswith("site: the gap in accuracy and in balanced accuracy has no interval") for note in answer.notes
    )
    one = subject.subgroups(predicted(made, np.ones(40, bool), labels=np.zeros(40, int)), SETTINGS, None)
    assert any("one class only" in note for note in one.notes)


def test_characteristics_from_a_file(made, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("image_id,sex,localization\ni00001,male,back\ni00000,female,\ni00002,male,face\n")
    cell = predicted(made, np.ones(4, dtype=bool))
    settings = subject.SubgroupsSettings(metadata=str(path), by=("sex", "localization"))
    found, notes = characteristics(cell, cell.test, settings)
    assert found["sex"].tolist() == ["female", "male", "male", "unknown"]
    assert found["localization"].tolist() == ["unknown", "back", "face", "unknown"]
    assert "site" not in found
    assert "1 of 4 test images are not in it" in notes
    with pytest.raises(UserError, match="lacks the columns age"):
        characteristics(cell, cell.test, subject.SubgroupsSettings(metadata=str(path), by=("age",)))
    with pytest.raises(UserError, match="is not there"):
        characteristics(cell, cell.test, subject.SubgroupsSettings(metadata=str(tmp_path / "none.csv")))
    with pytest.raises(ValueError, match="age_edges must rise"):
        subject.SubgroupsSettings(age_edges=(60, 40))
