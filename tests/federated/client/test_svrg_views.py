"""SVRG's anchor is the mean of what its steps draw from, so that the estimator is unbiased: a float64 loop by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.loader import Part
from federated.client.gradients import VarianceReduced
from federated.data.shares import PartData
from models.network import UNIT
from models.recipes.batches import Preparation

ROUNDING = 1e-7  # the loss is taken in float32; a view left out shows in the second digit
PREPARE = Preparation(UNIT, None, torch.device("cpu"), channels_last=False)


def data(images: int, views: int, batch_size: int) -> PartData:
    """Float64 maps [N, 4, 1, 1], and copies of them that are another picture each."""
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(images, 4, 1, 1)) for _ in range(1 + views)]
    names = np.array([f"i{number}" for number in range(images)])
    labels = random.integers(0, 3, images)
    part = Part(arrays[0], np.arange(images), labels, names, names, np.full(images, ""), tuple(arrays[1:]))
    return PartData(part, part, PREPARE, batch_size, seed=3)


def softmax() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3).double())


def by_hand(module: nn.Module, part: Part) -> list[Tensor]:
    """The mean gradient over every image in every view, one at a time."""
    arrays = (part.inputs, *part.views)
    parameters = list(module.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for array, number in product(arrays, range(len(part))):
        inputs, label = torch.from_numpy(array[number][None]), torch.from_numpy(part.labels[number][None])
        gradients = torch.autograd.grad(F.cross_entropy(module(inputs), label), parameters)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += gradient / (len(arrays) * len(part))
    return total


def moved(module: nn.Module) -> None:
    """Away from the round's model."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


@pytest.mark.parametrize("views", [0, 3])
def test_the_full_gradient_is_over_every_view(views: int) -> None:
    given, module = data(images=70, views=views, batch_size=10), softmax()
    expected = by_hand(module, given.train_part)
    found = VarianceReduced(module, list(module.parameters()), given, 0, seed=5).full
    for value, hand in zip(found, expected, strict=True):
        torch.testing.assert_close(value, hand, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("views", [0, 2])
def test_the_estimator_is_unbiased(views: int) -> None:
    """Every image in every view once: the mean of g_i(w) - g_i(anchor) + full(anchor) over the batches is full(w)."""
    given, module = data(images=24, views=views, batch_size=6), softmax()
    reduced = VarianceReduced(module, list(module.parameters()), given, 0, seed=5)
    moved(module)
    expected = by_hand(module, given.train_part)
    draws = [reduced(*batch)[0] for batch in every_batch(given)]
    for position, hand in enumerate(expected):
        mean = torch.stack([gradients[position] for gradients in draws]).mean(0)
        torch.testing.assert_close(mean, hand, rtol=0, atol=ROUNDING)


def every_batch(given: PartData) -> list[tuple[Any, Any]]:
    """The batches of an epoch for each view by itself."""
    part, found = given.train_part, []
    for array in (part.inputs, *part.views):
        alone = replace(given, train_part=replace(part, inputs=array, views=()))
        found += list(alone.train(0))
    return found


def test_an_epochs_batches_draw_from_those_views() -> None:
    """What the steps see are the same pictures that the full gradient is taken over."""
    given = data(images=24, views=2, batch_size=6)
    known = {float(value) for inputs, _ in given.whole(0) for value in inputs[:, 0].flatten()}
    assert len(known) == 3 * 24
    assert {float(value) for inputs, _ in given.train(1) for value in inputs[:, 0].flatten()} <= known
