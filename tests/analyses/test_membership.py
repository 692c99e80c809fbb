"""Membership inference on made-up models: near 1 where training images are known by heart, at chance where not."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.analyses.membership.analysis import attacked
from bench.analyses.membership.attacks import confidence, lira, rate_at
from bench.analyses.membership.settings import MembershipSettings
from bench.core.errors import UserError

SETTINGS = MembershipSettings(resamples=200)


def cell(made, seed, size, heart, per_group=1, moves=True):
    """A model that is `heart` logits surer of its training images, which the seed draws from `size`."""
    draw = np.random.default_rng(seed if moves else 0)
    names = np.array([f"i{number:05}" for number in range(size)])
    hard = np.random.default_rng(99).normal(0, 3, size)
    labels = np.random.default_rng(98).integers(0, 2, size)
    order = draw.permutation(size)
    rows = {"train": order[: size // 2], "val": order[size // 2 : 5 * size // 8], "test": order[5 * size // 8 :]}
    known = hard + np.random.default_rng(1000 + seed).normal(0, 0.3, size)
    known[rows["train"]] += heart

    def predictions(part):
        kept = np.sort(rows[part])
        right = 1 / (1 + np.exp(-known[kept]))
        shares = np.where(labels[kept, None] == np.arange(2), right[:, None], 1 - right[:, None])
        groups = np.array([f"p{number // per_group}" for number in kept])
        return SimpleNamespace(
            ids=names[kept], groups=groups, labels=labels[kept], probabilities=shares, classes=("a", "b")
        )

    return SimpleNamespace(predictions=predictions)


def cells(made, heart, count=6, **more):
    return [cell(made, seed, 1000, heart, **more) for seed in range(count)]


def test_a_model_that_knows_its_images_by_heart_is_found_out(made):
    target, *shadows = cells(made, heart=6.0)
    columns = attacked(target, shadows, SETTINGS).columns
    assert columns["membership_auc"].value > 0.99
    assert columns["membership_tpr_1"].value > 0.95
    assert columns["membership_gap"].value > 0.3
    # The loss alone does not know which images are hard for everybody.
    assert columns["membership_loss_auc"].value < columns["membership_auc"].value


def test_a_model_that_learned_nothing_of_its_images_is_at_chance(made):
    target, *shadows = cells(made, heart=0.0)
    columns = attacked(target, shadows, SETTINGS).columns
    for name in ("membership_auc", "membership_loss_auc"):
        assert columns[name].low < 0.5 < columns[name].high
    assert columns["membership_tpr_1"].value < 0.05
    assert abs(columns["membership_gap"].value) < 0.1


def test_one_training_part_for_all_seeds_is_refused(made):
    target, *shadows = cells(made, heart=1.0, moves=False)
    with pytest.raises(UserError, match="share one training part"):
        attacked(target, shadows, SETTINGS)


def test_the_likelihood_ratio_by_hand():
    """Outside models say (0, 2) of the first image and (1,) of the second; the spread is sqrt(2 / 1)."""
    shadows = np.array([[0.0, 1.0, 5.0], [2.0, 9.0, 5.0]])
    inside = np.array([[False, False, True], [False, True, True]])
    scores = lira(np.array([3.0, 0.0, 7.0]), shadows, inside)
    assert scores[:2] == pytest.approx([2 / np.sqrt(2), -1 / np.sqrt(2)])
    assert np.isnan(scores[2])
    assert np.isnan(lira(np.array([3.0, 0.0, 7.0]), shadows, inside, fewest=2)[1])


def test_true_positives_at_a_rate_of_false_ones_by_hand():
    scores = np.array([5.0, 3.0, 1.0, 4.0, 2.0, 0.0, -1.0])
    members = np.array([True, True, True, False, False, False, False])
    threshold, caught = rate_at(scores, members, 0.25)
    assert threshold == 2.0
    assert caught.tolist() == [True, True, False]
    assert rate_at(scores, members, 0.01)[1].tolist() == [True, False, False]


def test_confidence_is_the_logit_and_finite():
    found = confidence(np.array([0, 1]), np.array([[0.75, 0.25], [1.0, 0.0]]))
    assert found[0] == pytest.approx(np.log(3))
    assert np.isfinite(found).all()
