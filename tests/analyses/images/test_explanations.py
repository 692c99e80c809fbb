"""Explanations: exact on linear models, captum's equal, a planted shortcut found, measures by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.analyses.explanations.analysis import agreement, attributions, explanations
from bench.analyses.explanations.attribution import (
    block_at,
    centred,
    integrated,
    integrated_gradients_of,
    layer_cam_of,
    randomised,
)
from bench.analyses.explanations.measures import (
    centre_prior,
    mass,
    pointing,
    rank_correlation,
    removal_curves,
    within_reach,
)
from bench.analyses.explanations.settings import ExplanationsSettings
from bench.analyses.support.pixel_space import pixel_space
from bench.core.errors import UserError

SIZE = 32
MARK = np.zeros((SIZE, SIZE), dtype=bool)
MARK[:8, :8] = True


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU6(inplace=True),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU6(True),
        )
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 2))

    def forward(self, images):
        return self.head(self.backbone(images))


def prepare(images):
    return (torch.from_numpy(np.array(images)).movedim(-1, 1).float() / 255 - 0.4) / 0.2


def drawn(count, seed=0):
    """Noise with a red mark in a corner on half of the images and a green square on half, independently."""
    generator = np.random.default_rng(seed)
    images = np.repeat(generator.integers(60, 140, (count, SIZE, SIZE, 1), dtype=np.uint8), 3, axis=3)
    marked, green = np.arange(count) % 2 == 1, np.arange(count) // 2 % 2 == 1
    images[np.ix_(marked, range(8), range(8))] = (255, 60, 60)
    images[np.ix_(green, range(18, 26), range(18, 26))] = (60, 255, 60)
    return images, marked, green


def trained(by_mark):
    """A network whose class 1 is the mark, or the green square."""
    images, marked, green = drawn(64)
    labels = (marked if by_mark else green).astype(np.int64)
    torch.manual_seed(0)
    network = Small()
    optimizer = torch.optim.AdamW(network.parameters(), 0.02, weight_decay=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(prepare(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def spaces():
    return {marked: pixel_space(trained(marked), prepare, SIZE) for marked in (True, False)}


def both_signs():
    """Images of class 1 for either network."""
    images, marked, green = drawn(128, seed=5)
    return images[marked & green][:16]


@pytest.mark.parametrize("explain", [layer_cam_of(4), integrated_gradients_of(16)], ids=["layercam", "gradients"])
def test_the_planted_mark_is_found_where_it_decides_and_not_where_it_does_not(spaces, explain):
    images = both_signs()
    chosen = SimpleNamespace(images=images, ids=np.arange(len(images)), decisions=np.ones(len(images), dtype=np.int64))
    shares, points = {}, {}
    for marked, space in spaces.items():
        found = attributions(space, chosen, explain, 8)
        shares[marked] = np.mean([mass(each, MARK) for each in found]) / MARK.mean()
        points[marked] = np.mean([pointing(each, MARK) for each in found])
    assert shares[True] > 5
    assert points[True] > 0.9
    assert shares[False] < 5
    assert points[False] < 0.1


def linear(weights):
    """Logits that are linear in 0-1 pixels: a backbone that passes them on."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(weights.shape[1], len(weights), bias=False))
    head[1].weight = nn.Parameter(torch.tensor(weights, dtype=torch.float32))
    network = nn.Module()
    network.backbone, network.head = nn.Sequential(nn.Identity()), head
    plain = lambda images: torch.from_numpy(np.array(images)).movedim(-1, 1).float() / 255  # noqa: E731
    return pixel_space(network.eval(), plain, 4)


def test_integrated_gradients_of_a_linear_model_are_weight_times_distance():
    weights = np.random.default_rng(0).normal(size=(2, 48))
    pixels = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 1])
    found = integrated(linear(weights), pixels, classes, 3)
    away = pixels - pixels.mean((2, 3), keepdim=True)
    expected = torch.tensor((weights - weights.mean(0))[classes.numpy()], dtype=torch.float32).view(3, 3, 4, 4) * away
    assert torch.allclose(found, expected, atol=1e-6)


def test_shares_add_up_and_are_those_of_captum(spaces):
    captum = pytest.importorskip("captum.attr")
    space = spaces[True]
    pixels = space.pixels(both_signs()[:4])
    classes = torch.ones(4, dtype=torch.int64)
    baseline = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    found = integrated(space, pixels, classes, 64)
    risen = (centred(space.logits(pixels)) - centred(space.logits(baseline)))[:, 1]
    assert found.sum((1, 2, 3)).numpy() == pytest.approx(risen.numpy(), rel=0.05)
    theirs = captum.IntegratedGradients(lambda given: centred(space.logits(given))).attribute(
        pixels, baseline, target=1, n_steps=64, method="riemann_middle"
    )
    assert torch.allclose(found, theirs.float(), atol=1e-4)


def test_layercam_by_hand():
    """A map of one channel, whose mean is the first of two logits: half its gradient, 1 / 32, is left of centring."""
    network = nn.Module()
    network.backbone = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(inplace=True))
    network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ZeroPad1d((0, 1)))
    network.backbone[0].weight = nn.Parameter(torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1))
    plain = lambda images: torch.from_numpy(np.array(images)).movedim(-1, 1).float() / 255  # noqa: E731
    space = pixel_space(network.eval(), plain, 4)
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = layer_cam_of(1)(space, pixels, torch.zeros(2, dtype=torch.int64))
    expected = (pixels[:, 0] + pixels[:, 1] - pixels[:, 2]).clamp(min=0) / 32
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_block_is_the_last_one_that_is_fine_enough(spaces):
    space = spaces[True]
    pixels = torch.zeros(1, 3, SIZE, SIZE)
    stages = list(space.network.backbone.children())
    assert block_at(space, pixels, 4) is stages[4]
    assert block_at(space, pixels, 2) is stages[2]
    with pytest.raises(UserError, match=r"explanations\.stride higher"):
        block_at(space, pixels, 1)


def test_a_shuffled_network_explains_otherwise(spaces):
    space = spaces[True]
    other = randomised(space.network, 0)
    for one, two in zip(space.network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.flatten().sort().values, two.flatten().sort().values)
    images = both_signs()
    chosen = SimpleNamespace(images=images, ids=np.arange(len(images)), decisions=np.ones(len(images), dtype=np.int64))
    shuffled = pixel_space(other, prepare, SIZE)
    explain = layer_cam_of(4)
    pairs = list(zip(attributions(space, chosen, explain, 8), attributions(shuffled, chosen, explain, 8), strict=True))
    assert np.nanmean([rank_correlation(*pair) for pair in pairs]) < 0.75
    learned, forgotten = np.nanmean([[mass(each, MARK) for each in pair] for pair in pairs], axis=0)
    assert forgotten < 0.5 * learned
    assert rank_correlation(centre_prior(8), centre_prior(8)) == pytest.approx(1)


def test_the_pointing_game_has_its_published_tolerance():
    """15 of 224 pixels: at 32 pixels a side, two pixels beside the mark are a hit, three are a miss."""
    inside = np.zeros((32, 32), bool)
    inside[:8, :8] = True
    for column, expected in ((7, 1.0), (9, 1.0), (10, 0.0), (31, 0.0)):
        attribution = np.zeros((32, 32))
        attribution[4, column] = 1
        assert pointing(attribution, inside) == expected
    assert within_reach(inside).mean() == pytest.approx((100 - 3) / 1024)  # the corner's diagonal is too far


def test_stability_is_the_mean_correlation_with_other_networks():
    generator = np.random.default_rng(0)
    own, other = generator.random((2, 6, 6)), generator.random((2, 6, 6))
    expected = [(1 + rank_correlation(own[number], other[number])) / 2 for number in range(2)]
    assert agreement(own, [own, other]) == pytest.approx(expected)
    assert agreement(own, []) == [None, None]


def test_mass_and_pointing_by_hand():
    attribution = np.array([[1.0, 2.0], [3.0, 2.0]])
    inside = np.array([[True, False], [True, False]])
    assert mass(attribution, inside) == pytest.approx(0.5)
    assert pointing(attribution, inside) == 1.0
    assert pointing(np.ones((2, 2)), inside) == 0.5
    assert np.isnan(mass(np.zeros((2, 2)), inside))
    assert np.isnan(pointing(np.zeros((2, 2)), inside))


def test_deletion_and_insertion_by_hand():
    """The model answers with the upper left pixel alone: 200 of 255 with it, the mean's 50 without."""
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 200

    def answers(images):
        share = images[:, 0, 0, 0] / 255
        return np.stack([1 - share, share], axis=1)

    first = np.array([[9.0, 1.0], [1.0, 1.0]])
    high, low = 200 / 255, 50 / 255
    deletion, insertion = removal_curves(image, first, answers, 1, 4)
    assert deletion == pytest.approx((high + 7 * low) / 8)
    assert insertion == pytest.approx((low + 7 * high) / 8)
    last = removal_curves(image, -first, answers, 1, 4)
    assert last == (pytest.approx((7 * high + low) / 8), pytest.approx((7 * low + high) / 8))


def test_the_analysis_measures_where_masks_are_known_and_draws(made_up_cell, tmp_path):
    cell = made_up_cell("skin")
    Image.fromarray(np.pad(np.full((16, 16), 255, np.uint8), 8)).save(tmp_path / "mask.png")
    masks = np.array([str(tmp_path / "mask.png")] * 10 + [""] * 30)
    cell.table = SimpleNamespace(ids=cell.table.ids, masks=masks)
    settings = ExplanationsSettings(images=12, shown=3, gradient_steps=4, removals=4, resamples=100, stride=8)
    answer = explanations(cell, settings, tmp_path)
    rows = [row for row in answer.tables["images"] if row["method"] == "layercam"]
    assert sum(row["mass"] is not None for row in rows) == 10
    assert answer.columns["explanations_mass_chance"].value == pytest.approx(0.25)
    assert 0.25 < answer.columns["explanations_mass_centre"].value < 0.6
    assert any("of the 10 with a lesion's mask; 2 have no mask" in note for note in answer.notes)
    path, arrays = answer.files.values()
    with np.load(arrays) as kept:
        assert kept["layercam"].shape == (12, 32, 32)
        assert mass(kept["layercam"][0], np.ones((32, 32), bool)) == pytest.approx(1)
    assert answer.columns["explanations_stability_layercam"].value is None
    with Image.open(path) as drawn_sheet:
        assert drawn_sheet.size == (3 * 128, 14 + 3 * (128 + 14))


def test_a_predictor_without_a_network_is_refused(made_up_cell, tmp_path):
    cell = made_up_cell("skin", with_network=False, epochs=1)
    with pytest.raises(UserError, match="has no network"):
        explanations(cell, ExplanationsSettings(), tmp_path)
