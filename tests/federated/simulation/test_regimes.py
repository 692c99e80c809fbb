"""Every regime and every policy runs, improves on the start, and goes on after a stop as if there had been none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.config import Federation
from bench.core.errors import UserError
from bench.data.loader import Part
from bench.measure.clients import CLIENT_COLUMNS
from federated.algorithms.registry import ALGORITHMS
from federated.data.shares import share_out
from federated.simulation import local_only as alone
from federated.simulation.fit import fit
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
POLICIES = ("average", "personal", "frozen", "group")
COMPRESSIONS = ("float16", "int8", "topk")


def state(context: FitContext) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in context.module.state_dict().items() if "tracked" not in n}


def is_healthy(context: FitContext) -> bool:
    layers = [layer for layer in context.module.modules() if isinstance(layer, nn.BatchNorm1d)]
    positive = all(bool((layer.running_var > 0).all()) for layer in layers if layer.running_var is not None)
    return positive and all(bool(torch.isfinite(t).all()) for t in state(context).values())


@pytest.mark.parametrize("regime", ALGORITHMS.names())
def test_every_regime_trains(make_context: Make, regime: str) -> None:
    context = make_context(regime, images=120, protocol={"epochs": 6}, server_learning_rate=None)
    outcome = fit(context)
    assert is_healthy(context)
    assert [row["round"] for row in outcome.history] == list(range(1, 7))
    assert outcome.history[-1]["val_loss"] < outcome.history[0]["val_loss"]
    assert outcome.columns["up_mb"] > 0
    assert outcome.columns["val_worst_client_accuracy"] <= outcome.columns["val_mean_client_accuracy"]
    assert (context.folder / "best.safetensors").is_file()


@pytest.mark.parametrize("regime", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_no_server_optimizer_touches_a_running_variance(make_context: Make, regime: str) -> None:
    context = make_context(regime, protocol={"epochs": 12}, server_learning_rate=1.0, server_momentum=0.95)
    fit(context)
    assert all(bool((m.running_var > 0).all()) for m in context.module.modules() if isinstance(m, nn.BatchNorm1d))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_batch_norm_policy_trains(make_context: Make, policy: str) -> None:
    context = make_context("fedavg", batch_norm=policy)
    before = state(context)
    outcome = fit(context)
    assert is_healthy(context)
    after = state(context)
    assert outcome.history[-1]["update_norm"] > 0
    if policy == "frozen":
        assert torch.equal(after["4.running_mean"], before["4.running_mean"])
    if policy == "group":
        assert isinstance(context.module[4], nn.GroupNorm)  # type: ignore[index]
    if policy in ("average", "personal"):
        assert not torch.equal(after["4.running_mean"], before["4.running_mean"])


def test_personal_layers_do_not_travel(make_context: Make) -> None:
    shared, personal = make_context("fedavg"), make_context("fedbn")
    assert fit(personal).columns["up_mb"] < fit(shared).columns["up_mb"]


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressed_updates_train_and_are_smaller(make_context: Make, kind: str) -> None:
    compressed, plain = make_context("fedavg", compression=kind, kind="linear"), make_context("fedavg", kind="linear")
    assert fit(compressed).history[-1]["val_loss"] == pytest.approx(fit(plain).history[-1]["val_loss"], abs=0.25)


def test_a_finished_fit_is_not_trained_again(make_context: Make) -> None:
    context = make_context("fedavg")
    first = fit(context)
    told: list[dict[str, Any]] = []
    second = fit(replace(context, on_event=told.append))
    assert told == []
    assert second.history == first.history


def test_a_dropout_costs_a_reply_and_not_the_round(make_context: Make) -> None:
    outcome = fit(make_context("fedavg", dropout_rate=0.5, protocol={"epochs": 6}))
    answered = [row["clients_answered"] for row in outcome.history]
    assert len(answered) == 6
    assert min(answered) < 5


def test_a_round_counts_the_images_that_its_clients_trained_on(make_context: Make) -> None:
    """Five clients of 12 images and batches of 8, two asked: 3 steps of 8 images each; nothing else is counted."""
    outcome = fit(make_context("fedavg", participation=0.4, local_steps=3))
    assert [row["images_trained"] for row in outcome.history] == [2 * 3 * 8] * 3
    assert all(0 < row["seconds_training"] <= row["seconds_compute"] < row["seconds"] for row in outcome.history)
    alone_rows = alone.fit(make_context("local-only", local_epochs=2)).history
    assert [row["images_trained"] for row in alone_rows] == [3 * 2 * 8] * 5
    assert all(row["seconds_training"] > 0 for row in alone_rows)


@pytest.mark.parametrize("regime", ["fedavg", "fedavg-svrg", "scaffold", "local-only"])
def test_clients_compute_batches_in_pieces_with_the_same_steps(make_context: Make, regime: str) -> None:
    """Without dropout and BatchNorm the gradients of three pieces (of 3, 3 and 2 images) add up to the batch's."""
    run = alone.fit if regime == "local-only" else fit
    whole, divided = make_context(regime, kind="linear"), make_context(regime, kind="linear")
    sizes: list[int] = []
    divided.module.register_forward_pre_hook(
        lambda module, given: sizes.append(len(given[0])) if module.training else None
    )
    divided = replace(divided, micro_batches=3)
    notes = run(whole).notes, run(divided).notes
    for name, tensor in state(whole).items():
        torch.testing.assert_close(state(divided)[name], tensor, rtol=0, atol=1e-6)
    if regime != "fedavg-svrg":  # its statistics are brought up to date by whole batches, without gradients
        assert max(sizes) == 3
    assert not any("pieces" in note for note in notes[0])
    assert any("each batch of 8 images computed in 3 pieces" in note for note in notes[1])


@pytest.mark.parametrize(
    ("regime", "fields", "told"),
    [
        ("fedavg", {}, True),
        ("fedavg", {"batch_norm": "frozen"}, False),
        ("fedavg-svrg", {}, False),
        ("local-only", {}, True),
    ],
)
def test_pieces_say_where_batch_norm_has_its_statistics_from(
    make_context: Make, regime: str, fields: dict[str, Any], told: bool
) -> None:
    context = replace(make_context(regime, protocol={"epochs": 1}, **fields), micro_batches=2)
    outcome = (alone.fit if regime == "local-only" else fit)(context)
    assert any("BatchNorm took its statistics from the pieces" in note for note in outcome.notes) is told


def test_early_stopping_ends_the_rounds(make_context: Make) -> None:
    recipe = {"epochs": 40, "early_stopping_patience": 2}
    context = make_context("fedavg", kind="linear", protocol=recipe, local_learning_rate=1e-9)
    assert len(fit(context).history) == 3


def test_local_only_training_names_the_median_client(make_context: Make) -> None:
    context = make_context("local-only", images=120)
    outcome = alone.fit(context)
    accuracies = sorted(row["val_accuracy"] for row in outcome.history)
    median = outcome.history[int(outcome.columns["median_client"])]["val_accuracy"]
    assert median == accuracies[2]
    assert outcome.columns["val_worst_local_model_accuracy"] == accuracies[0]
    assert not outcome.columns.keys() & set(CLIENT_COLUMNS)
    assert outcome.columns["up_mb"] == 0


def test_the_partition_is_written_for_the_report(make_context: Make) -> None:
    context = make_context("fedavg", partition="dirichlet", alpha=0.2)
    fit(context)
    written = json.loads((context.folder / "partition.json").read_text())
    assert written["partition"] == "dirichlet"
    assert np.sum(written["train"]) == 60
    assert np.sum(written["val"]) == 30


@pytest.mark.parametrize(
    ("regime", "fields", "message"),
    [
        ("fedmedian", {"privacy": "central"}, "adds noise to a mean"),
        ("krum", {"secure_aggregation": True}, "must see each client"),
        ("scaffold", {"privacy": "local", "batch_norm": "frozen"}, "sends what no noise covers"),
        ("fedavg", {"privacy": "central"}, "running statistics would leave"),
        ("fedavg", {"privacy": "local", "batch_norm": "personal", "clip_norm": None}, "noise needs a bound"),
        ("fedavg", {"secure_aggregation": True, "compression": "int8"}, "adds whole vectors only"),
        ("fedavg", {"clients": 61}, "61 clients need as many groups"),
        ("fedavg", {"partition": "site"}, "names its sites"),
    ],
)
def test_contradicting_settings_are_refused(
    make_context: Make, regime: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fit(make_context(regime, **fields))


def test_the_test_part_is_dealt_to_clients_whole_groups_at_a_time() -> None:
    """Each test image belongs to one client, a group's images to the same one, whatever the partition's seed."""
    part = _part_of_groups(count=120, groups=24)
    shares = share_out(part.subset(np.arange(60)), part.subset(np.arange(60, 90)), Federation(clients=3), 2, seed=4)
    test = part.subset(np.arange(90, 120))
    holders = shares.holders(test)
    assert set(holders) <= set(shares.names)
    assert all(len(set(holders[test.groups == group])) == 1 for group in np.unique(test.groups))
    assert np.array_equal(holders, shares.holders(test))


def _part_of_groups(count: int, groups: int) -> Part:
    numbers = np.arange(count)
    names = np.array([f"i{number:03}" for number in numbers])
    owners = np.array([f"g{number * groups // count:02}" for number in numbers])
    return Part(numbers[:, None].astype(np.float32), numbers, numbers % 2, names, owners, np.full(count, ""))
