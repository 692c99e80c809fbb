"""Similar cases: neighbours by hand, distances between features of length 1, unlike images told."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.analyses.similar.analysis import similar
from bench.analyses.similar.settings import SimilarSettings
from bench.analyses.support.averages import auroc
from bench.analyses.support.intervals import ResampledSettings
from bench.analyses.support.likeness import Likeness, features_of
from bench.core.errors import UserError


def known(angles, k=2, limit=0.5):
    """Training features on the unit circle."""
    turned = np.deg2rad(angles)
    return Likeness(np.stack([np.cos(turned), np.sin(turned)], axis=1), np.arange(len(angles)), k, limit)


def test_the_nearest_are_those_at_the_smallest_angle():
    """Chords: 2 sin(angle / 2)."""
    found = known([0, 30, 90, 180])
    places, away = found.nearest(known([20]).features, 3)
    assert places.tolist() == [[1, 0, 2]]
    assert away[0] == pytest.approx(2 * np.sin(np.deg2rad([5, 10, 35])))
    assert found.distances(known([20, 180]).features) == pytest.approx(2 * np.sin(np.deg2rad([10, 45])))


def test_features_are_the_maps_means_at_length_one():
    network = SimpleNamespace(backbone=nn.Conv2d(3, 2, 1, bias=False))
    network.backbone.weight = nn.Parameter(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1))
    predictor = SimpleNamespace(
        network=network, device="cpu", card=SimpleNamespace(channels_last=False),
        prepare=lambda images: torch.from_numpy(np.asarray(images)).movedim(-1, 1).float(),
    )  # fmt: skip
    images = np.zeros((20, 4, 4, 3), dtype=np.uint8)
    images[..., 0], images[..., 1] = 30, 40
    assert features_of(predictor, images) == pytest.approx(np.tile([0.6, 0.8], (20, 1)))
    with pytest.raises(UserError, match="has no network"):
        features_of(SimpleNamespace(), images)


def test_the_auroc_of_a_score_by_hand():
    """Of 2 x 3 pairs four are right and one is a tie."""
    found = auroc([3, 1, 2, 1, 0], [True, True, False, False, False], list("abcde"), ResampledSettings(resamples=100))
    assert found.value == pytest.approx((3 + 1 + 0.5) / 6)


def test_a_training_image_is_its_own_nearest_and_the_furthest_are_unlike(made_up_cell, tmp_path):
    cell = made_up_cell("skin", epochs=5)
    answer = similar(cell, SimilarSettings(images=12, neighbours=1, shown=2, resamples=100), tmp_path)
    rows = answer.tables["images"]
    assert [row["nearest"] for row in rows] == [[row["id"]] for row in rows]
    assert answer.columns["similar_same_label"].value == 1
    assert answer.columns["similar_distance"].value == pytest.approx(0, abs=1e-3)  # features are float32
    # Validation is the same 40 images here: two of them lie beyond the 95th percentile.
    wider = similar(cell, SimilarSettings(images=40, neighbours=5, shown=2, resamples=100), tmp_path)
    assert wider.columns["similar_unlike"].value == pytest.approx(2 / 40)
    assert (tmp_path / "similar.png").is_file()


def test_more_neighbours_than_training_images_are_refused(made_up_cell, tmp_path):
    with pytest.raises(UserError, match="the 40-th nearest of 40 training images"):
        similar(made_up_cell("skin", epochs=1), SimilarSettings(neighbours=40), tmp_path)
