"""External validation on phantoms, its class names and its differences by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.analyses.external.analysis import Answers, cross_fitted, difference, external, overlap
from bench.analyses.external.classes import class_table, own_labels
from bench.analyses.external.settings import ExternalSettings
from bench.analyses.registry import Estimate
from bench.cli.app import app
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.phantom import datasets as phantoms
from bench.measure.quality import quality

SETTINGS = ExternalSettings(on="phantom-skin", resamples=100)


@pytest.fixture(scope="module")
def cell(made_up_cell):
    """Fitted on 40 phantoms; the other dataset is the first 60 of the same kind."""
    found = made_up_cell("skin")
    found.spec = SimpleNamespace(protocol=Protocol(synthetic_images=60, image_size=32))
    return found


def named(*classes, kind="skin"):
    return SimpleNamespace(name="other", classes=classes, kind=kind, labels=np.arange(len(classes)))


def test_names_are_read_by_what_they_mean():
    foreign = named("MEL", "NV", "BKL")
    melanoma = class_table(foreign, ("benign", "melanoma"), "skin", {})
    assert melanoma == {"MEL": "melanoma", "NV": "benign", "BKL": "benign"}
    assert own_labels(foreign, ("benign", "melanoma"), melanoma).tolist() == [1, 0, 0]
    seven = class_table(foreign, ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"), "skin", {"NV": ""})
    assert seven == {"MEL": "mel", "NV": None, "BKL": "bkl"}
    assert own_labels(foreign, ("bkl", "mel"), seven).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("foreign", "own", "given", "sentence"),
    [
        (named("benign", "melanoma"), ("nv", "mel", "bkl"), {}, "'benign' may be nv or bkl"),
        (named("a", "b"), ("nv", "mel"), {}, "fewer than two of the classes"),
        (named("a", "b"), ("nv", "mel"), {"c": "nv"}, "has no class 'c'"),
        (named("a", "b"), ("nv", "mel"), {"a": "x"}, "the model has no class 'x'"),
    ],
)
def test_names_that_do_not_say_it_are_asked_for(foreign, own, given, sentence):
    with pytest.raises(UserError, match=sentence):
        class_table(foreign, own, "skin", given)


def test_pictures_of_the_own_dataset_are_left_out(cell, tmp_path):
    foreign = phantoms.skin(60, 32)
    seen = overlap(cell.table, foreign)
    same = np.isin(foreign.checksums, cell.table.checksums)
    assert same.any()
    assert seen[same].all()
    answer = external(cell, SETTINGS, tmp_path)
    there = answer.tables["quality"][1]
    assert there["images"] == 60 - seen.sum()
    assert any("pictures of the cell's own dataset" in note for note in answer.notes)


def test_the_metrics_are_those_of_the_predictor(cell, tmp_path):
    settings = SETTINGS.model_copy(update={"without_overlap": False})
    answer = external(cell, settings, tmp_path)
    foreign = phantoms.skin(60, 32)
    pixels = np.stack([foreign.images.read(row) for row in range(60)])
    expected = quality(foreign.labels, cell.predictor.probabilities([cell.prepare(pixels)]), foreign.classes)
    for name in ("accuracy", "log_loss", "ece"):
        assert answer.columns[f"external_{name}"].value == pytest.approx(expected[name], abs=1e-5)
    stored = cell.predictions()
    own = quality(stored.labels, stored.probabilities, stored.classes)
    assert answer.columns["external_drop_accuracy"].value == pytest.approx(own["accuracy"] - expected["accuracy"])
    assert sum(row["images"] for row in answer.tables["classes"]) == 60


def test_the_own_dataset_and_none_are_refused(cell, tmp_path):
    same = SimpleNamespace(
        **{**vars(cell), "spec": SimpleNamespace(protocol=Protocol(synthetic_images=40, image_size=32))}
    )
    with pytest.raises(UserError, match="is the dataset that the cell was fitted on"):
        external(same, SETTINGS, tmp_path)
    with pytest.raises(UserError, match="--on DATASET"):
        external(cell, ExternalSettings(), tmp_path)


def test_any_folder_with_an_index_is_answered_on(cell, tmp_path):
    """A folder as a hospital would hand it over: pictures, and an index.csv that says what is known of them."""
    foreign = phantoms.skin(60, 32)
    lines = ["image,label,part,lesion_id,age,sex,anatomy,mask"]
    for row in range(60):
        Image.fromarray(foreign.images.read(row)).save(tmp_path / f"{row:03}.png")
        label = foreign.classes[foreign.labels[row]]
        lines.append(f"{row:03}.png,{label},train,lesion {row // 2},{20 + row},{'fm'[row % 2]}emale,back,")
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    added = CliRunner().invoke(app, ["data", "add", "elsewhere", str(tmp_path), "--kind", "skin"])
    assert added.exit_code == 0, added.output
    settings = ExternalSettings(on="elsewhere", resamples=100, without_overlap=False)
    answer = external(cell, settings, tmp_path)
    pixels = np.stack([foreign.images.read(row) for row in range(60)])
    found = cell.predictor.probabilities([cell.prepare(pixels)])
    expected = quality(foreign.labels, found, foreign.classes)
    for name in ("accuracy", "roc_auc", "ece"):
        figure = answer.columns[f"external_{name}"]
        assert figure.value == pytest.approx(expected[name], abs=1e-5)
        assert figure.low < figure.value < figure.high
    assert answer.columns["external_drop_accuracy"].low < answer.columns["external_drop_accuracy"].value
    assert "external_ece_updated" in answer.columns


def test_a_difference_of_independent_metrics_by_hand():
    """Distances 3 and 4 to the bounds make 5."""
    found = difference(Estimate(10.0, 7.0, 14.0), Estimate(2.0, -1.0, 6.0))
    assert found == Estimate(8.0, 8.0 - 5.0, 8.0 + 5.0)
    assert difference(Estimate(1.0), Estimate(0.5, 0.4, 0.6)) == Estimate(0.5)
    assert difference(Estimate(None), Estimate(0.5)) == Estimate(None)


def test_each_half_is_calibrated_by_the_other():
    """Logits that are three times too large: the temperature of either half is near 3."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, 6000)
    labels = (generator.uniform(size=6000) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    sure = 1 / (1 + np.exp(-3 * logits))
    groups = np.array([f"p{number // 3}" for number in range(6000)])
    found = cross_fitted(Answers(labels, np.stack([1 - sure, sure], axis=1), groups), 0)
    ratio = 3 * logits / np.log(found[:, 1] / found[:, 0])
    temperatures = np.unique(ratio.round(6))
    assert len(temperatures) == 2
    assert temperatures == pytest.approx([3, 3], rel=0.1)
    halves = ratio.round(6) == temperatures[0]
    assert all(len(set(halves[groups == name])) == 1 for name in np.unique(groups)[:50])
