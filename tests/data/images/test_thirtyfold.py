"""Thirty changes of an image, one for each image of a batch."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from bench.data.images.augment import augment
from bench.data.images.thirtyfold import CHANGES, thirtyfold


def test_there_are_thirty_and_no_two_are_alike() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = [change(image) for change in CHANGES]
    assert len(changed) == 30
    assert all(one.shape == image.shape for one in changed)
    everything = [image, *changed]
    for number, one in enumerate(everything):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in everything[number + 1 :])


def test_each_image_gets_one_of_them_by_the_generators_draw() -> None:
    batch = torch.rand(40, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    before = batch.clone()
    found = thirtyfold(batch, torch.Generator().manual_seed(5))
    drawn = torch.randint(30, (40,), generator=torch.Generator().manual_seed(5))
    for image, number, one in zip(batch, drawn.tolist(), found, strict=True):
        torch.testing.assert_close(one, CHANGES[number](image[None])[0].clamp(0, 1))
    assert torch.equal(batch, before)
    assert torch.equal(found, augment(batch, "thirtyfold", torch.Generator().manual_seed(5)))
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_filters_are_scipys() -> None:
    image = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    gray = image[0, 0].numpy().astype(np.float64)
    blur = next(change for change in CHANGES if getattr(change, "keywords", {}).get("sigma") == 1.0)
    theirs = ndimage.gaussian_filter(gray, 1.0, mode="nearest", radius=3)
    np.testing.assert_allclose(blur(image)[0, 0].numpy(), theirs, atol=1e-6)
    laplace = CHANGES[24]
    np.testing.assert_allclose(laplace(image)[0, 0].numpy(), np.abs(ndimage.laplace(gray, mode="nearest")), atol=1e-5)


def test_distortions_leave_the_middle_where_it_is() -> None:
    image = torch.zeros(1, 3, 33, 33)
    image[:, :, 16, 16] = 1
    for change in CHANGES[:18]:
        assert int(change(image)[0, 0].argmax()) == 16 * 33 + 16
