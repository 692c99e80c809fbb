"""Curves: straight under a linear function, great circles on a sphere."""

import math

import pytest
import torch

from bench.analyses.geometry.paths import curve, least_energy_path, segment
from bench.core.errors import UserError

WEIGHT = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear(points):
    return points.flatten(1) @ WEIGHT.T


def sphere(angles):
    """Latitude and longitude [N, 2] -> the unit sphere [N, 3]."""
    latitude, longitude = angles.unbind(1)
    return torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], dim=1)


ENDS = torch.tensor([[0.9, 0.0], [0.9, 2.0]], dtype=torch.float64)


def test_under_a_linear_function_path_over_chord_is_one_everywhere():
    ends = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = curve(linear, segment(ends[0], ends[1], 9))
    assert found.ratio == pytest.approx(1, abs=1e-12)
    assert found.chord == pytest.approx(float((WEIGHT @ (ends[1] - ends[0]).flatten()).norm()))
    assert found.energy == pytest.approx(found.chord**2)


def test_a_parallel_has_its_known_length():
    fine = curve(sphere, segment(*ENDS, 400))
    assert fine.length == pytest.approx(2 * math.cos(0.9), rel=1e-5)
    assert fine.length < 2 * math.cos(0.9)


def test_the_path_of_least_energy_on_a_sphere_is_the_great_circle():
    straight = segment(*ENDS, 21)
    found = curve(sphere, least_energy_path(sphere, straight, steps=200))
    a, b = sphere(ENDS)
    angle = math.acos(float(a @ b))
    steps = 20
    assert found.length == pytest.approx(steps * 2 * math.sin(angle / steps / 2), rel=1e-6)
    assert found.length < curve(sphere, straight).length - 0.1
    assert found.energy == pytest.approx(found.length**2, rel=1e-6)


def test_the_ends_stay_and_a_straight_image_is_left_alone():
    ends = torch.randn(2, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    straight = segment(ends[0], ends[1], 6)
    torch.testing.assert_close(least_energy_path(linear, straight), straight)
    path = least_energy_path(sphere, segment(*ENDS, 7))
    assert torch.equal(path[[0, -1]], ENDS)


def test_too_short_a_path_is_a_mistake():
    with pytest.raises(UserError, match="two points or more"):
        segment(ENDS[0], ENDS[1], 1)
    with pytest.raises(UserError, match="three or more"):
        least_energy_path(sphere, ENDS)


def test_two_images_with_one_image_have_no_ratio():
    point = torch.zeros(12, dtype=torch.float64)
    assert math.isnan(curve(linear, segment(point, point, 3)).ratio)


def test_the_unit_of_the_functions_answer_does_not_matter():
    """The optimizer's tolerances are absolute: features of size 1e-6 were once left where they were."""
    straight = segment(*ENDS, 11)
    path = least_energy_path(lambda points: 1e-6 * sphere(points), straight, steps=200)
    torch.testing.assert_close(path, least_energy_path(sphere, straight, steps=200), rtol=1e-5, atol=1e-6)
    assert curve(sphere, path).length < curve(sphere, straight).length - 0.1
