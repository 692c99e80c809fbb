"""BatchNorm statistics as they travel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.calibrate import calibrate, put_statistics, statistics


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))


def test_estimated_statistics_arrive_to_the_bit() -> None:
    estimated, bare = small(), small()
    calibrate(estimated, [(torch.randn(8, 3, 12, 12), torch.zeros(8))])
    assert len(statistics(estimated)) == 4 * (2 * 4 + 2 * 2)
    put_statistics(bare, statistics(estimated))
    for name in ("1.running_mean", "1.running_var", "4.running_mean", "4.running_var"):
        assert torch.equal(bare.state_dict()[name], estimated.state_dict()[name])
    assert not torch.equal(bare.state_dict()["1.running_mean"], small().state_dict()["1.running_mean"])


def test_statistics_of_another_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match="3 statistics do not fit a backbone of 12"):
        put_statistics(small(), bytes(12))


def test_a_backbone_without_batch_norm_has_none() -> None:
    assert statistics(nn.Conv2d(3, 4, 3)) == b""
