"""The analysis `geometry` on a made-up cell: its tables agree with each other and with what is known."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.analyses.geometry.analysis import geometry, hessian_gap
from bench.analyses.geometry.jacobian import jacobian
from bench.analyses.geometry.layers import blocks, last_linear, spread
from bench.analyses.geometry.settings import SPEC, GeometrySettings
from bench.analyses.support.pixel_space import pixel_space
from bench.core.errors import UserError

SETTINGS = GeometrySettings(images=6, resamples=100, pairs=2, points=5, path_steps=10, top=4, probes=64, layers=2,
                            neighbours=5, curvature_images=20, lanczos_steps=12, dense=200)  # fmt: skip


@pytest.fixture(scope="module")
def cell(made_up_cell):
    return made_up_cell("skin", images=60)


@pytest.fixture(scope="module")
def answer(cell, tmp_path_factory):
    assert SPEC.load() is geometry
    return geometry(cell, SETTINGS, tmp_path_factory.mktemp("geometry"))


def test_every_image_has_its_metric_and_its_margin(answer):
    rows = answer.tables["images"]
    assert len(rows) == 6
    for row in rows:
        values = [row[f"singular_{place}"] for place in range(1, 8)]
        assert values == sorted(values, reverse=True)
        assert row["stable_rank"] == pytest.approx(sum(v**2 for v in values) / values[0] ** 2)
        assert row["fisher_7"] < 1e-9 * row["fisher_1"]
        assert row["hessian_gap"] is None or row["hessian_gap"] < 1e-3
        assert 0 <= row["angle_to_fisher"] <= 90
        squares = sum(row[f"feature_singular_{place}"] ** 2 for place in range(1, 5))
        assert squares < row["feature_squares"] + 4 * row["feature_squares_error"]
    assert any(row["hessian_gap"] is not None for row in rows)
    found = [row["attack_over_first_order"] for row in rows if row["attack_over_first_order"] is not None]
    assert found
    assert np.median(found) < 3


def test_the_columns_are_means_of_the_rows(answer):
    rows = answer.tables["images"]
    column = answer.columns["geometry_top_singular_value"]
    assert column.value == pytest.approx(np.mean([row["singular_1"] for row in rows]))
    assert column.low < column.value < column.high
    assert all(name.startswith("geometry_") for name in answer.columns)
    json.dumps([answer.tables, answer.notes], allow_nan=False)


def test_paths_are_longer_than_chords_and_least_energy_is_least(answer):
    assert len(answer.tables["paths"]) == 2
    for row in answer.tables["paths"]:
        assert row["feature_ratio"] >= 1
        assert row["output_ratio"] >= 1
        assert row["energy_ratio"] <= 1
        assert row["least_energy_length"] <= row["feature_length"] * 1.001


def test_dimension_is_by_layer_class_and_site(answer, cell):
    rows = answer.tables["dimension"]
    assert {row["layer"] for row in rows} == {"pixels", "backbone 1", "backbone 4", "features", "logits"}
    assert {row["name"] for row in rows if row["of"] == "site"} == {"north", "harbour", "hill"}
    assert {row["name"] for row in rows if row["of"] == "class"} == set(cell.classes)
    by_all = [row for row in rows if row["of"] == "all"]
    assert all(row["two_nn_low"] < row["two_nn"] < row["two_nn_high"] for row in by_all)
    small = [row for row in rows if row["images"] < 20]
    assert small
    assert all(row["mle"] is None for row in small)
    assert {row["neighbours_of"] for row in answer.tables["overlap"]} == {"north", "harbour", "hill", "others"}


def test_curvature_agrees_between_the_output_layer_and_a_head_that_is_nothing_else(answer):
    output, head, network = answer.tables["curvature"]
    assert head["method"] == output["method"] == "exact"
    assert network["method"] == "lanczos"
    assert head["largest"] == pytest.approx(output["largest"], rel=1e-4)
    assert head["trace"] == pytest.approx(output["trace"], rel=1e-4)
    assert output["negative_mass"] == 0
    assert network["negative_mass"] > 0
    assert network["largest"] >= head["largest"] * (1 - 1e-3)
    (path,) = answer.files.values()
    density = json.loads(path.read_text())["network"]
    step = density["values"][1] - density["values"][0]
    assert sum(density["density"]) * step == pytest.approx(1, abs=0.02)


def test_the_same_settings_give_the_same_answer(answer, cell, tmp_path):
    again = geometry(cell, SETTINGS, tmp_path)
    assert again.tables == answer.tables
    assert again.columns == answer.columns


def test_a_network_that_is_not_piecewise_affine_is_told(cell, tmp_path):
    network = cell.predictor.network
    smooth = nn.Module()
    smooth.backbone = nn.Sequential(*[nn.SiLU() if isinstance(m, nn.ReLU) else m for m in network.backbone])
    smooth.head = network.head
    other = SimpleNamespace(**vars(cell) | {"predictor": SimpleNamespace(network=smooth.eval())})
    found = geometry(other, SETTINGS.model_copy(update={"curvature": False, "pairs": 0, "images": 3}), tmp_path)
    assert any("not piecewise affine" in note for note in found.notes)
    assert "curvature" not in found.tables
    assert not found.files


def test_a_predictor_without_a_network_is_refused(cell, tmp_path):
    other = SimpleNamespace(**vars(cell) | {"predictor": SimpleNamespace()})
    with pytest.raises(UserError, match="has no network"):
        geometry(other, SETTINGS, tmp_path)


def test_the_space_of_pixels_is_the_networks_own_function(cell):
    images = cell.images()[:3]
    space = pixel_space(cell.predictor.network, cell.prepare, 32)
    pixels = space.pixels(images)
    assert float(pixels.max()) <= 1
    torch.testing.assert_close(space.inputs(pixels), cell.prepare(images))
    torch.testing.assert_close(space.logits(pixels), cell.predictor.network(cell.prepare(images)))


def test_a_preparation_without_a_unit_of_pixels_is_refused(cell):
    network = cell.predictor.network
    with pytest.raises(UserError, match="no affine map"):
        pixel_space(network, lambda images: cell.prepare(images) ** 2, 32)
    with pytest.raises(UserError, match="training mode"):
        pixel_space(nn.Linear(1, 1).train(), cell.prepare, 32)


def test_stages_are_found_by_structure():
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert [name for name, _ in blocks(nn.Sequential(nn.Sequential(inner)))] == ["0.0.0", "0.0.1", "0.0.2"]
    assert spread(list(range(10)), 3) == [2, 6, 9]
    assert spread([1, 2], 5) == [1, 2]
    with pytest.raises(UserError, match="no linear output layer"):
        last_linear(nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 1, 1)))
    assert math.isfinite(last_linear(nn.Sequential(nn.Linear(3, 4), nn.ReLU())).weight.sum().item())


def test_a_saturated_softmax_does_not_pass_rounding_for_curvature(cell):
    """Logits 10,000 times as large leave a Hessian of rounding errors alone."""
    space = pixel_space(cell.predictor.network, cell.prepare, 32)
    image = space.pixels(cell.images()[:1])[0]
    loud = SimpleNamespace(logits=lambda pixels: 1e4 * space.logits(pixels))
    rows, logits = jacobian(loud.logits, image), loud.logits(image[None])[0].detach()
    assert math.isnan(hessian_gap(loud, image, int(logits.argmax()), rows, logits))
