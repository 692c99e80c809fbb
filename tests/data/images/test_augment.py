from __future__ import annotations

import pytest
import torch

from bench.data.images.augment import augment, flipped, jittered, rotated


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["brain", "skin", "other"])
def test_shape_range_and_determinism(kind):
    batch = torch.rand(8, 3, 20, 24, generator=generator(5))
    before = batch.clone()
    first, second = augment(batch, kind, generator(1)), augment(batch, kind, generator(1))
    assert torch.equal(first, second)
    assert torch.equal(batch, before)
    assert first.shape == batch.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, augment(batch, kind, generator(2)))


def test_each_image_has_a_draw_of_its_own():
    one = torch.rand(1, 3, 16, 16, generator=generator()).repeat(16, 1, 1, 1)
    assert len({tuple(image.flatten().tolist()) for image in augment(one, "skin", generator(3))}) == 16


def test_a_flip_mirrors_or_leaves_alone():
    batch = torch.arange(4.0).repeat(40, 3, 4, 1)
    result = flipped(batch, generator(), dimension=3)
    mirrored = [torch.equal(image, batch[0].flip(2)) for image in result]
    assert all(flip or torch.equal(image, batch[0]) for flip, image in zip(mirrored, result, strict=True))
    assert 8 < sum(mirrored) < 32


def test_no_rotation_at_zero_degrees_and_centre_stays():
    batch = torch.rand(4, 3, 17, 17, generator=generator())
    assert torch.allclose(rotated(batch, 0.0, generator()), batch, atol=1e-5)
    turned = rotated(batch, 180.0, generator())
    assert torch.allclose(turned[:, :, 8, 8], batch[:, :, 8, 8], atol=1e-4)


def test_brain_keeps_gray_gray_and_upright_slices_upright():
    gray = torch.rand(6, 1, 24, 24, generator=generator()).repeat(1, 3, 1, 1)
    gray[:, :, :12] = 0
    result = augment(gray, "brain", generator(4))
    assert torch.allclose(result[:, 0], result[:, 2])
    assert (result[:, :, 14:].mean((1, 2, 3)) > result[:, :, :10].mean((1, 2, 3))).all()


def test_jitter_moves_colours_a_little():
    batch = torch.rand(32, 3, 8, 8, generator=generator()) * 0.6 + 0.2
    change = (jittered(batch, generator(1)) - batch).abs()
    assert 0.005 < change.mean() < 0.1


def test_half_precision_and_channels_last_are_fine():
    batch = torch.rand(4, 3, 16, 16).to(memory_format=torch.channels_last)
    assert augment(batch, "skin", generator()).shape == batch.shape
