"""Flower's Ray simulation ends in the in-process grid's weights, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.core.errors import UserError
from federated.server.losses import ClientFailed
from federated.simulation.cell import ENGINE
from federated.simulation.fit import fit
from models.recipes.context import FitContext


@pytest.mark.ray
@pytest.mark.slow
def test_ray_and_in_process_agree_bit_for_bit(
    make_context: Callable[..., FitContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    fields = {"clients": 3, "rounds": 2, "compression": "topk", "dropout_rate": 0.2}
    here, there = make_context("scaffold", **fields), make_context("scaffold", **fields)
    fit(here)
    monkeypatch.setenv(ENGINE, "ray")
    fit(there)
    for name, tensor in here.module.state_dict().items():
        if "tracked" not in name:
            assert torch.equal(tensor, there.module.state_dict()[name]), name


@pytest.mark.ray
@pytest.mark.slow
def test_a_client_that_raises_in_an_actor_fails_the_fit(
    make_context: Callable[..., FitContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    monkeypatch.setenv(ENGINE, "ray")
    context = make_context("fedavg", clients=2, rounds=1)
    # What an actor unpickles and cannot use: a partition's features without the last axes of an image.
    train = context.data.train
    flat = replace(train, inputs=np.asarray(train.inputs)[:, :4], rows=np.arange(len(train)))
    broken = replace(context, data=replace(context.data, train=flat))
    with pytest.raises(ClientFailed, match=r"client \d \(train\): .*RuntimeError: mat1 and mat2") as caught:
        fit(broken)
    assert "federated/client/training.py" in caught.value.__notes__[0]


@pytest.mark.ray
def test_a_cell_on_ray_cannot_start_a_ray_of_its_own(
    make_context: Callable[..., FitContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs the ray extra")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setenv(ENGINE, "ray")
    with pytest.raises(UserError, match="BENCH_FEDERATED_ENGINE=ray starts a Ray of its own"):
        fit(make_context("fedavg", clients=2, rounds=1))
