"""All pairs in the family: the picked best is not called better more often than one time in twenty."""

from __future__ import annotations

import numpy as np
import pytest

from bench.measure.statistics.paired import holm, sign_flip
from bench.measure.statistics.selection import every_pair


def test_two_systems_have_the_p_value_of_every_flip_tried_out() -> None:
    sums = np.array([[[3.0, 1.0], [2.0, 0.0], [4.0, 1.0], [1.0, 2.0], [5.0, 5.0], [2.0, 0.0], [1.0, 0.0]]])
    exact, _ = sign_flip((sums[0, :, 0] - sums[0, :, 1]).astype(int))
    assert every_pair(sums, flips=20_000)[0, 1] == pytest.approx(exact, abs=0.01)


def test_equal_systems_are_never_told_apart() -> None:
    found = every_pair(np.ones((1, 30, 4)))
    assert np.isnan(np.diag(found)).all()
    assert (found[np.triu_indices(4, 1)] == 1).all()


def test_systems_are_compared_on_the_parts_that_both_have() -> None:
    """The third lacks the first part, the fourth the second: those two share nothing."""
    sums = np.random.default_rng(0).integers(0, 3, (2, 20, 4)).astype(float)
    sums[0, :, 2] = sums[1, :, 3] = np.nan
    found = every_pair(sums)
    assert np.isnan(found[2, 3])
    assert np.isfinite(found[0, 1:]).all()
    assert found[0, 2] == found[2, 0]


def test_equal_seeds_give_equal_p_values_whatever_the_chunk() -> None:
    sums = np.random.default_rng(0).integers(0, 3, (1, 50, 5)).astype(float)
    np.testing.assert_array_equal(every_pair(sums, 500, 1), every_pair(sums, 500, 1))


def test_picking_the_best_of_ten_equal_systems_is_counted() -> None:
    """Holm over the best one's own pairs alone, as it was, calls it better in more than one simulation of twenty."""
    random, picked, counted = np.random.default_rng(3), 0, 0
    for number in range(150):
        sums = (random.random((300, 10)) < 0.85).astype(float)
        best = int(sums.sum(axis=0).argmax())
        others = [system for system in range(10) if system != best]
        steps = [(sums[:, best] - sums[:, other]).astype(int) for other in others]
        picked += min(holm([sign_flip(step)[0] for step in steps])) < 0.05
        counted += bool((every_pair(sums[None], 299, number)[best, others] < 0.05).any())
    assert picked / 150 > 0.08
    assert counted / 150 <= 0.07


def test_a_system_that_is_much_better_is_told_from_all() -> None:
    random = np.random.default_rng(0)
    sums = (random.random((600, 6)) < np.array([0.97, *[0.85] * 5])).astype(float)
    assert (every_pair(sums[None])[0, 1:] < 0.001).all()
