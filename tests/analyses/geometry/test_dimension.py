"""Intrinsic dimension of bodies whose dimension is known."""

import numpy as np
import pytest

from bench.analyses.geometry.dimension import distances, distinct, levina_bickel, overlap, two_nn
from bench.core.errors import UserError


def ball(dimension, ambient, count=1200):
    generator = np.random.default_rng(dimension)
    directions = generator.standard_normal((count, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = directions * generator.random((count, 1)) ** (1 / dimension)
    frame, _ = np.linalg.qr(generator.standard_normal((ambient, dimension)))
    return points @ frame.T


def swiss_roll(count=1200):
    generator = np.random.default_rng(0)
    turn, width = 1.5 * np.pi * (1 + 2 * generator.random(count)), 21 * generator.random(count)
    return np.stack([turn * np.cos(turn), width, turn * np.sin(turn)], axis=1)


def sphere(dimension, count=1200):
    points = np.random.default_rng(7).standard_normal((count, dimension + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


BODIES = [(ball(1, 5), 1), (ball(2, 20), 2), (ball(5, 30), 5), (swiss_roll(), 2), (sphere(2), 2), (sphere(4), 4)]


@pytest.mark.parametrize(("points", "dimension"), BODIES)
def test_balls_a_swiss_roll_and_spheres_have_their_dimension(points, dimension):
    between = distances(points)
    two, many = two_nn(between), levina_bickel(between, 10)
    assert two.value == pytest.approx(dimension, rel=0.12)
    assert many.value == pytest.approx(dimension, rel=0.12)
    assert two.low < two.value < two.high
    assert two.low < dimension * 1.05
    assert two.high > dimension * 0.95
    assert many.high - many.low < two.high - two.low


def test_both_by_hand_on_four_points_of_a_line():
    """0, 1, 3, 7: the nearest two of each are (1, 3), (1, 2), (2, 3), (4, 6)."""
    between = distances(np.array([[0.0], [1.0], [3.0], [7.0]]))
    logs = np.log([3.0, 2.0, 1.5, 1.5]).sum()
    assert two_nn(between).value == pytest.approx(3 / logs)
    assert levina_bickel(between, 2).value == pytest.approx(4 / logs)


def test_duplicates_would_spoil_it_and_are_removed_first():
    points = ball(3, 10, 400)
    doubled = np.concatenate([points, points[:200], points[:50] + 1e-9])
    between = distances(doubled)
    with pytest.raises(UserError, match="duplicates"):
        two_nn(between)
    kept = distinct(between)
    assert kept.tolist() == list(range(400))
    assert two_nn(between[np.ix_(kept, kept)]).value == pytest.approx(two_nn(distances(points)).value)


def test_too_few_points_or_equal_distances_are_mistakes():
    with pytest.raises(UserError, match="no 2 neighbours"):
        two_nn(distances(np.eye(2)))
    with pytest.raises(UserError, match="same distance"):
        two_nn(distances(np.eye(5)))
    with pytest.raises(UserError, match="two neighbours or more"):
        levina_bickel(distances(ball(2, 3, 20)), 1)


def test_owners_that_share_a_body_overlap_and_owners_apart_do_not():
    points = ball(3, 6, 600)
    owners = np.array(["north", "south", "south"] * 200)
    mixed = overlap(distances(points), owners, 10)
    assert mixed.owners == ("north", "south")
    assert mixed.across == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(mixed.mixing, 1, atol=0.1)
    apart = overlap(distances(points + 10 * (owners == "north")[:, None]), owners, 10)
    assert apart.across == 0
    np.testing.assert_allclose(apart.mixing, [[599 / 199, 0], [0, 599 / 399]])


def test_an_overlap_by_hand():
    """a at 0 and 1, b at 1.5: one neighbour each: a -> a, a -> b, b -> a."""
    found = overlap(distances(np.array([[0.0], [1.0], [1.5]])), ["a", "a", "b"], 1)
    np.testing.assert_allclose(found.mixing, [[0.5 / 0.5, 0.5 / 0.5], [1 / 1, np.nan]])
    assert found.across == pytest.approx((2 / 3 * 0.5 + 1 / 3 * 1) / (2 / 3 * 0.5 + 1 / 3 * 1))
    with pytest.raises(UserError, match="two owners"):
        overlap(distances(np.eye(4)), ["a"] * 4, 2)
