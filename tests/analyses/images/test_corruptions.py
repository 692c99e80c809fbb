"""Corruptions: shapes, seeds, severities that rise, and the physics that each stands for."""

import numpy as np
import pytest

from bench.analyses.corruptions import dermoscopy, mri
from bench.analyses.corruptions.common import SEVERITIES, unit
from bench.analyses.corruptions.dermoscopy import DERMOSCOPY
from bench.analyses.corruptions.mri import MRI
from bench.core.errors import UserError
from bench.data.phantom import datasets as phantoms

SIZE = 64
ALL = [(kind, name) for kind, found in (("skin", DERMOSCOPY), ("brain", MRI)) for name in found]


@pytest.fixture(scope="module")
def images():
    tables = {"skin": phantoms.skin(30, SIZE), "brain": phantoms.brain(30, SIZE)}
    read = {kind: [table.images.read(row) for row in range(0, 30, 5)] for kind, table in tables.items()}
    return {
        kind: [each if each.ndim == 3 else np.repeat(each[..., None], 3, axis=2) for each in found]
        for kind, found in read.items()
    }


def corrupted(kind, name, image, severity, seed=0):
    return {"skin": DERMOSCOPY, "brain": MRI}[kind][name](image, severity, np.random.default_rng(seed))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_damage_rises_with_severity_and_follows_the_seed(images, kind, name):
    damage = []
    for severity in SEVERITIES:
        squares = []
        for number, image in enumerate(images[kind]):
            before = image.copy()
            found = corrupted(kind, name, image, severity, number)
            assert found.shape == image.shape
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(image, before)
            np.testing.assert_array_equal(found, corrupted(kind, name, image, severity, number))
            squares.append(((unit(found) - unit(image)) ** 2).mean())
        damage.append(np.mean(squares))
    assert damage[0] > 0
    assert (np.diff(damage) > 0).all(), damage


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_severity_outside_1_to_5_is_a_mistake(images, kind, name):
    with pytest.raises(UserError, match="from 1 to 5"):
        corrupted(kind, name, images[kind][0], 6)


def test_an_image_need_not_be_square(images):
    for kind, name in ALL:
        wide = np.concatenate([images[kind][0], images[kind][1]], axis=1)[:, :90]
        assert corrupted(kind, name, wide, 3).shape == (64, 90, 3)


@pytest.mark.parametrize("signal", [0.0, 0.1, 0.5])
def test_rician_noise_has_its_moments(signal):
    """Mean square s^2 + 2 sigma^2; fourth moment s^4 + 8 s^2 sigma^2 + 8 sigma^4; Rayleigh's mean without a signal."""
    sigma, flat = 0.08, np.full((500, 500), signal)
    found = mri.rician(flat, sigma, np.random.default_rng(0))
    assert (found**2).mean() == pytest.approx(signal**2 + 2 * sigma**2, rel=0.01)
    assert (found**4).mean() == pytest.approx(signal**4 + 8 * signal**2 * sigma**2 + 8 * sigma**4, rel=0.02)
    if signal == 0:
        assert found.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)


def test_the_bias_field_is_smooth_and_spans_its_range():
    field = mri.field(80, 60, np.random.default_rng(3))
    assert field.min() == pytest.approx(-1)
    assert field.max() == pytest.approx(1)
    spectrum = np.abs(np.fft.fft2((field - field.mean()) * np.outer(np.hanning(80), np.hanning(60)))) ** 2
    low = np.add.outer(np.abs(np.fft.fftfreq(80, 1 / 80)), np.abs(np.fft.fftfreq(60, 1 / 60))) <= 8
    assert spectrum[low].sum() > 0.999 * spectrum.sum()
    for axis in (0, 1):  # a polynomial of degree 3: its fourth differences vanish
        assert np.abs(np.diff(field, 4, axis=axis)).max() < 1e-9


def test_the_bias_field_multiplies_a_flat_image_within_its_range():
    flat = np.full((40, 40, 3), 100, dtype=np.uint8)
    found = mri.bias_field(flat, 2, np.random.default_rng(0))
    assert found.min() == pytest.approx(100 * np.exp(-0.3), abs=1)
    assert found.max() == pytest.approx(100 * np.exp(0.3), abs=1)


def test_downsampling_by_hand():
    """Factor 2 on pairs of columns 0 and 200: each area's mean is 100, and so is the whole image."""
    columns = np.tile([0, 200], 8).astype(np.uint8)
    image = np.repeat(np.tile(columns, (16, 1))[..., None], 3, axis=2)
    assert np.unique(mri.downsampling(image, 2, np.random.default_rng(0))).tolist() == [100]
    half = np.repeat(np.tile(np.repeat([0, 200], 8).astype(np.uint8), (16, 1))[..., None], 3, axis=2)
    # Areas of 4 columns: 0, 0, 200, 200, at the positions 1.5, 5.5, 9.5, 13.5; column 7 lies 1.5 of 4 after the second.
    found = mri.downsampling(half, 4, np.random.default_rng(0))[8, :, 0]
    assert found.tolist() == [0] * 6 + [25, 75, 125, 175] + [200] * 6


def test_motion_of_everything_is_a_shift_and_no_motion_is_nothing():
    signal = np.random.default_rng(0).random((16, 16))
    still = mri.moved(signal, np.zeros((1, 2)), np.array([0.1]))
    np.testing.assert_allclose(still, signal, atol=1e-12)
    whole = mri.moved(signal, np.array([[3.0, -2.0]]), np.array([0.0]))
    np.testing.assert_allclose(whole, np.roll(signal, (3, -2), (0, 1)), atol=1e-12)


def test_a_ghost_stands_half_a_field_away():
    signal = np.zeros((64, 8))
    signal[10] = 1
    found = mri.ghosted(signal, 0.5, 2)
    assert found[42, 0] > 0.2
    others = np.delete(found[:, 0], [10, 42])
    assert others.max() < 0.05
    np.testing.assert_allclose(mri.ghosted(signal, 0.0, 2), signal, atol=1e-12)


def test_a_spike_is_one_pair_of_points_in_k_space():
    flat = np.full((64, 64, 3), 128, dtype=np.uint8)
    found = unit(mri.spike(flat, 4, np.random.default_rng(1)))[..., 0]
    spectrum = np.abs(np.fft.fft2(found)) / found.size
    spectrum[0, 0] = 0
    assert (spectrum > 0.01).sum() == 2
    assert spectrum.max() == pytest.approx(0.24 / 2, rel=0.02)


def test_kernels_blur_without_loss_and_have_their_extent():
    disk = dermoscopy.disk(3, 0.1)
    assert disk.sum() == pytest.approx(1)
    assert disk[len(disk) // 2].max() == pytest.approx(1 / (np.pi * 9), rel=0.05)
    streak = dermoscopy.streak(6, 4, 0.0)
    assert streak.sum() == pytest.approx(1)
    assert streak[6].sum() == pytest.approx(1)
    assert (streak[6, :6] == 0).all()
    assert (np.diff(streak[6, 7:12]) < 0).all()


def test_factors_by_hand():
    image = np.zeros((2, 2, 3), dtype=np.uint8) + np.array([100, 50, 200], dtype=np.uint8)
    generator = np.random.default_rng(0)
    assert dermoscopy.brightness_up(image, 5, generator)[0, 0].tolist() == [150, 75, 255]
    assert dermoscopy.brightness_down(image, 5, generator)[0, 0].tolist() == [50, 25, 100]
    gray = 0.299 * 100 + 0.587 * 50 + 0.114 * 200
    expected = [round(gray + 0.4 * (value - gray)) for value in (100, 50, 200)]
    assert dermoscopy.contrast_down(image, 5, generator)[0, 0].tolist() == expected
    expected = [min(255, round(gray + 1.5 * (value - gray))) for value in (100, 50, 200)]
    assert dermoscopy.saturate(image, 5, generator)[0, 0].tolist() == expected


def test_noise_has_its_share_and_its_deviation():
    flat = np.full((200, 200, 3), 128, dtype=np.uint8)
    hit = dermoscopy.impulse_noise(flat, 5, np.random.default_rng(0)) != 128
    assert hit.mean() == pytest.approx(0.17, rel=0.03)
    noisy = unit(dermoscopy.gaussian_noise(flat, 3, np.random.default_rng(0)))
    assert noisy.std() == pytest.approx(0.12, rel=0.02)
    counted = unit(dermoscopy.shot_noise(flat, 1, np.random.default_rng(0)))
    assert counted.var() == pytest.approx(128 / 255 / 60, rel=0.03)


def test_the_black_corner_leaves_the_middle():
    white = np.full((100, 100, 3), 255, dtype=np.uint8)
    found = dermoscopy.black_corner(white, 3, np.random.default_rng(0))[..., 0]
    assert (found > 0).mean() == pytest.approx(np.pi / 4, rel=0.01)
    assert found[50, 50] == 255
    assert found[0, 0] == 0
