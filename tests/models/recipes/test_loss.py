"""What a protocol may change about the loss, the batches, the weights that are kept and the rates."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.harness.plan import Request, make_plan
from bench.store.layout import BEST
from models.recipes.batches import balanced_order
from models.recipes.callbacks import Interrupted
from models.recipes.gradient import fit
from models.recipes.loss import Loss, averaged, balanced_weights, mix, rated_groups
from models.registry import MODELS
from tests.models.recipes.test_gradient import context, stopping_after, without_clock


def test_the_plain_loss_is_torchs_own_to_the_bit() -> None:
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    assert torch.equal(Loss()(logits, labels), F.cross_entropy(logits, labels))


def test_smoothed_labels_by_hand() -> None:
    """Two classes, probabilities 0.8 and 0.2, smoothing 0.2: targets 0.9 and 0.1."""
    logits = torch.tensor([[log(0.8), log(0.2)]])
    expected = -0.9 * log(0.8) - 0.1 * log(0.2)
    assert float(Loss(0.2)(logits, torch.tensor([0]))) == pytest.approx(expected)


def test_weights_of_classes_are_inverse_to_their_images_and_of_mean_one_over_them() -> None:
    labels = np.array([0] * 6 + [2] * 2)
    weights = balanced_weights(labels, 3)
    assert weights.tolist() == pytest.approx([8 / 12, 0, 8 / 4])
    assert float(weights[torch.from_numpy(labels)].mean()) == pytest.approx(1)


def test_a_batch_of_a_rare_class_counts_for_more() -> None:
    loss = Loss(class_weights=torch.tensor([0.5, 2.0]))
    logits = torch.zeros(3, 2)
    assert float(loss(logits, torch.tensor([1, 1, 1]))) == pytest.approx(2 * log(2))
    assert float(loss(logits, torch.tensor([0, 0, 1]))) == pytest.approx(log(2))


def test_balanced_draws_bring_the_classes_equally_often() -> None:
    labels = np.array([0] * 950 + [1] * 50)
    drawn = labels[balanced_order(labels, np.random.default_rng(0))]
    assert len(drawn) == 1000
    assert abs(drawn.mean() - 0.5) < 0.05


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_has_the_share_that_its_loss_counts_it_by(kind: str) -> None:
    """Images of zeros and of ones: a mixture's mean is the share of the ones."""
    torch.manual_seed(4)
    labels = torch.tensor([0, 1] * 4)
    inputs = labels.float().view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    for _ in range(10):
        mixed = mix(inputs, labels, Protocol(mix=kind, mix_alpha=1.0))
        expected = mixed.share * mixed.labels + (1 - mixed.share) * mixed.others
        torch.testing.assert_close(mixed.inputs.mean((1, 2, 3)), expected)
    logits = torch.randn(8, 2)
    parts = [F.cross_entropy(logits, labels) for labels in (mixed.labels, mixed.others)]
    assert float(Loss().of_mixture(logits, mixed)) == pytest.approx(
        float(mixed.share * parts[0] + (1 - mixed.share) * parts[1])
    )


def test_the_moving_average_by_hand() -> None:
    """Steps 0, 1 and 2 with weights 1, 2 and 4: after the first, 2/11 and then 3/12 of the average are kept."""
    layer = nn.Linear(1, 1, bias=False)
    average: dict[str, torch.Tensor] = {}
    for step, weight in enumerate((1.0, 2.0, 4.0)):
        layer.weight.data.fill_(weight)
        average = averaged(average, layer, step, 0.9)
    second = 2 / 11 * 1 + 9 / 11 * 2
    assert float(average["weight"]) == pytest.approx(3 / 12 * second + 9 / 12 * 4)
    assert float(averaged(average, layer, 3, 0.0)["weight"]) == 4


def test_rates_fall_from_the_head_backwards() -> None:
    groups = rated_groups(MODELS.get("resnet18").build(2), 1.0, 0.5)
    network = MODELS.get("resnet18").build(2)
    assert [group["lr"] for group in groups] == [0.5**depth for depth in range(7)]
    counts = [sum(parameter.numel() for parameter in group["params"]) for group in groups]  # type: ignore[attr-defined]
    assert counts[0] == sum(parameter.numel() for parameter in network.head.parameters())
    assert sum(counts) == sum(parameter.numel() for parameter in network.parameters())


CHANGES: dict[str, dict[str, Any]] = {
    "smoothing": {"label_smoothing": 0.1},
    "loss": {"class_balance": "loss"},
    "resample": {"class_balance": "resample"},
    "mixup": {"mix": "mixup"},
    "average": {"ema_decay": 0.9},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_fit_is_another_and_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    plain = fit(context(tmp_path / "plain"))
    expected = fit(context(tmp_path / "whole", **CHANGES[name]))
    assert without_clock(expected) != without_clock(plain)
    with pytest.raises(Interrupted):
        fit(replace(context(tmp_path / "stopped", **CHANGES[name]), should_stop=stopping_after(9)))
    assert without_clock(fit(context(tmp_path / "stopped", **CHANGES[name]))) == without_clock(expected)
    states = [load_file(tmp_path / folder / BEST) for folder in ("whole", "stopped")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    given = context(tmp_path, ema_decay=0.9, epochs=3)
    outcome = fit(given)
    predicted = outcome.predictor.of_part(given.data.val)
    accuracy = float((predicted.argmax(1) == given.data.val.labels).mean())
    assert accuracy == pytest.approx(max(row["val_accuracy"] for row in outcome.history))


def planned(regimes: str = "centralized", **changes: Any) -> Any:
    protocol = Protocol(weights="none", synthetic_images=60, **changes)
    return make_plan(Request("mobilenet_v2", "phantom-brain", protocol, regimes, "1"))


def test_fields_without_a_meaning_are_refused_at_planning() -> None:
    with pytest.raises(UserError, match=r"label_smoothing = 0.1 means nothing under fedavg, whose clients"):
        planned("centralized,fedavg", label_smoothing=0.1)
    with pytest.raises(UserError, match=r"cutmix means nothing where the head alone is trained; use --set tuning=full"):
        planned(mix="cutmix", tuning="head")
    with pytest.raises(UserError, match=r"layer_decay means nothing where the head alone"):
        planned(layer_decay=0.5, tuning="head")
    assert len(planned(mix="mixup", tuning="head", ema_decay=0.99).cells) == 1
