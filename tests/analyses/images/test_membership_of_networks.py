"""Membership of networks that were fitted: near 1 where one is overfitted to 16 images, at chance where it saw none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.analyses.membership.analysis import attacked
from bench.analyses.membership.settings import MembershipSettings

SIZE, TRAIN = 160, 16
IMAGES = torch.randn(SIZE, 48, generator=torch.Generator().manual_seed(0))
LABELS = np.random.default_rng(0).integers(0, 2, SIZE)


def fitted(rows, seed):
    """A network that knows its rows by heart: labels are drawn, there is nothing else to learn."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(IMAGES[rows]), torch.from_numpy(LABELS[rows])).backward()
        optimizer.step()
    with torch.no_grad():
        return network(IMAGES).softmax(1).double().numpy()


def cell(seed, told=None):
    """A network fitted on 16 images that the seed draws; `told` are others that are said to be its training part."""
    order = np.random.default_rng(seed).permutation(SIZE)
    shares = fitted(order[:TRAIN], seed)
    train = order[:TRAIN] if told is None else told
    rest = np.setdiff1d(np.arange(SIZE), [*train, *order[:TRAIN]])
    rows = {"train": np.sort(train), "val": rest[:8], "test": rest[8:]}

    def predictions(part):
        kept = rows[part]
        ids = np.array([f"i{number:03}" for number in kept])
        return SimpleNamespace(ids=ids, groups=ids, labels=LABELS[kept], probabilities=shares[kept], classes=("a", "b"))

    return SimpleNamespace(predictions=predictions)


@pytest.fixture(scope="module")
def shadows():
    return [cell(seed) for seed in range(1, 9)]


def test_a_network_overfitted_to_16_images_betrays_them(shadows):
    columns = attacked(cell(0), shadows, MembershipSettings(resamples=200)).columns
    assert columns["membership_auc"].value > 0.95
    assert columns["membership_gap"].value > 0.3


def test_a_network_that_never_saw_the_images_betrays_nothing(shadows):
    seen = np.random.default_rng(0).permutation(SIZE)[:TRAIN]
    others = np.setdiff1d(np.arange(SIZE), seen)
    told = np.random.default_rng(5).permutation(others)[: SIZE // 2]
    found = attacked(cell(0, told), shadows, MembershipSettings(resamples=200)).columns["membership_auc"]
    assert found.low < 0.5 < found.high
    assert found.value == pytest.approx(0.5, abs=0.12)
