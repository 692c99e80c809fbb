"""A network's vectors: what travels, what does not, and that nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from federated.transport.packing import Packing, pack, unpack
from models.group_norm import to_group_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def test_counters_are_left_out() -> None:
    assert Packing(network()).sizes() == (4 * 27 + 4 + 8 + 10, 8, 0)


def test_local_batch_norm_is_personal() -> None:
    assert Packing(network(), "personal").sizes() == (4 * 27 + 4 + 10, 0, 16)


def test_frozen_statistics_stay() -> None:
    assert Packing(network(), "frozen").sizes() == (130, 0, 0)


def test_there_and_back_keeps_every_bit_and_the_memory_format() -> None:
    module, other = network(), network()
    with torch.no_grad():
        module[0].weight.mul_(3)
    packing = Packing(other)
    unpack(pack(Packing(module).trainable), packing.trainable)
    assert torch.equal(module[0].weight, other[0].weight)
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_packed_vector_is_a_copy() -> None:
    module = network()
    vector = pack(Packing(module).trainable)
    with torch.no_grad():
        module[0].weight.zero_()
    assert np.abs(vector[:108]).min() > 0


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        unpack(np.zeros(3, np.float32), Packing(network()).trainable)


def test_frozen_layers_decide_the_resident_digest() -> None:
    module = network()
    module[0].requires_grad_(False)
    before = Packing(module).resident_digest()
    assert before == Packing(module[0:2], network=nn.ModuleList([module[0], module[1]])).resident_digest()
    with torch.no_grad():
        module[3].weight.add_(1)
    assert Packing(module).resident_digest() == before
    with torch.no_grad():
        module[0].weight.add_(1)
    assert Packing(module).resident_digest() != before


def test_group_norm_takes_the_place_of_batch_norm() -> None:
    module = to_group_norm(network())
    assert isinstance(module, nn.Sequential)
    assert isinstance(module[1], nn.GroupNorm)
    assert module[1].num_groups == 2
    assert Packing(module).sizes()[1] == 0


def test_counters_of_this_process_do_not_enter_the_chosen_model() -> None:
    module = network()
    packing = Packing(module)
    weights, buffers = pack(packing.trainable), pack(packing.buffers)
    module.train()(torch.randn(2, 3, 3, 3))
    assert int(module[1].num_batches_tracked) == 1
    packing.settle(weights, buffers)
    assert int(module[1].num_batches_tracked) == 0
    assert np.array_equal(pack(packing.buffers), buffers)
