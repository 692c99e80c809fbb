"""What every system of the literature must do: fit, go on after a stop, answer when stored, tell its cost, in a cell.

The large ones take minutes and are asked for by `-m long`; small ones run always.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.core.config import Runtime, load_protocol
from bench.core.errors import UserError
from bench.executors.run import execute
from bench.harness.finished import FinishedCell
from bench.harness.plan import Plan, Request, make_plan
from bench.store.run import Run
from models.backbones.registry import BACKBONES
from models.literature.catalogue import SYSTEMS
from models.recipes.callbacks import History, Interrupted
from models.recipes.registry import OWN_PROTOCOL, RECIPES
from models.registry import MODELS

SMALL = ("anaraki-gacnn", "btc-fcnn", "btc-fcnn-folded", "bmri-net", "alshayeji-cnn")
NAMES = [pytest.param(system.name, marks=() if system.name in SMALL else pytest.mark.long) for system in SYSTEMS]
STEPS, RATE = 60, {"vgg19": 1e-4}


def _plan(name: str, regimes: str = "centralized", *more: str) -> Plan:
    overrides = ["image_size=32", "epochs=2", "synthetic_images=60", "bootstrap_resamples=100", *more]
    return make_plan(Request(name, "phantom-brain", load_protocol("demo", overrides), regimes, "1"))


def _run(plan: Plan, folder: Path) -> FinishedCell:
    summary = execute(plan, Run.create(folder), Runtime(timing="off"), [])
    assert summary.done == len(plan.cells), summary
    return FinishedCell.open(folder, plan.cells[0].key)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Counts batches, and interrupts where `stop` is reached."""
    seen = {"count": 0.0, "stop": float("inf")}
    heard = History.on_train_batch_end

    def counted(self: History, *arguments: Any) -> None:
        seen["count"] += 1
        if seen["count"] > seen["stop"]:
            raise Interrupted
        heard(self, *arguments)

    monkeypatch.setattr(History, "on_train_batch_end", counted)
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_a_system_keeps_the_contract_of_a_cell(name: str, tmp_path: Path, batches: dict[str, float]) -> None:
    """The whole network is fitted; a fit that is stopped after two thirds of its batches ends like one that is not."""
    plan = _plan(name, "centralized", "tuning=full")
    whole = _run(plan, tmp_path / "whole")
    batches |= {"stop": max(1.0, batches["count"] * 2 // 3), "count": 0.0}
    with suppress(KeyboardInterrupt):
        execute(plan, Run.create(tmp_path / "stopped"), Runtime(timing="off"), [])
    assert batches["count"] == batches["stop"] + 1
    batches["stop"] = float("inf")
    again = _run(plan, tmp_path / "stopped")
    assert whole.stored.predictions().equals(again.stored.predictions())

    probabilities = whole.predictions().probabilities
    assert np.array_equal(whole.predictor.of_images(whole.images()), probabilities)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    cost = whole.result["cost"]
    assert cost["params_m"] > 0
    assert cost["macs_m"] > 0
    assert cost["image_size"] == plan.cells[0].image_size
    caution = MODELS.get(name).caution
    assert whole.result["data"]["cautions"] == ([caution] if caution else [])


@pytest.mark.parametrize("name", NAMES)
def test_clients_refuse_a_system_or_one_of_them_is_its_centralized_fit(name: str, tmp_path: Path) -> None:
    spec = MODELS.get(name)
    if not RECIPES.get(spec.recipe).federated or OWN_PROTOCOL in spec.options:
        with pytest.raises(UserError, match=rf"{name} is fitted .* which clients cannot follow: not under fedavg"):
            _plan(name, "fedavg")
        return
    plan = _plan(name, "fedavg,twin", "federated.clients=1", "epochs=1")
    _run(plan, tmp_path)
    one, two = (FinishedCell.open(tmp_path, cell.key).predictions().probabilities for cell in plan.cells)
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_a_system_learns_16_images_by_heart(name: str) -> None:
    spec = MODELS.get(name)
    size = BACKBONES.get(spec.backbone).min_size
    torch.manual_seed(0)
    network = spec.build(2).train()
    for layer in network.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    labels = torch.arange(16) % 2
    images = torch.randn(16, 3, size, size) + (labels * 2 - 1).view(-1, 1, 1, 1) * 0.5
    optimizer = torch.optim.Adam(network.parameters(), RATE.get(spec.backbone, 2e-3))
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = network(images)
        if torch.equal(logits.argmax(1), labels):
            return
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    pytest.fail(f"{name} knows {int((logits.argmax(1) == labels).sum())} of 16 images after {STEPS} steps")
