"""The centralized fit: what it learns, chooses, writes, and how it goes on after a stop."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bench.core.config import Protocol
from bench.data.loader import Part, Rows
from bench.store.layout import BEST, LAST
from models.backbones.registry import BACKBONES, effective_size
from models.baselines import BASELINES
from models.heads.config import HeadConfig, LinearHeadConfig
from models.heads.dense import LinearHead
from models.inference.engines import folded
from models.network import Network, Normalization
from models.recipes import callbacks
from models.recipes.batches import EvalBatches, Preparation, TrainBatches, pieces_of
from models.recipes.callbacks import BestCheckpoint, Interrupted
from models.recipes.context import FitContext, FitData, FitOutcome
from models.recipes.gradient import fit
from models.registry import MODELS, ModelSpec

CPU = torch.device("cpu")
PREPARE = Preparation(Normalization((0.5,) * 3, (0.25,) * 3), None, CPU, channels_last=True)


def maps_part(count: int, seed: int, noise: float = 1.0) -> Part:
    """Feature maps of two classes that differ in their mean."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    maps = rng.normal(size=(count, 8, 2, 2)) * noise + (labels * 2 - 1)[:, None, None, None]
    names = np.array([f"i{number}" for number in range(count)])
    return Part(maps.astype(np.float16), np.arange(count), labels, names, names, np.full(count, ""))


def of_one_array(first: Part, second: Part) -> FitData:
    """Two parts as the harness hands them out: rows of the same inputs."""
    both = np.concatenate([np.asarray(first.inputs), np.asarray(second.inputs)])
    return FitData(replace(first, inputs=both), replace(second, inputs=both, rows=second.rows + len(first)))


def context(folder: Path, **changes: Any) -> FitContext:
    """A head with dropout on maps; everything seeded."""
    fields = {"epochs": 4, "batch_size": 16, "tuning": "head", "early_stopping_patience": 4} | changes
    torch.manual_seed(1)
    head = HeadConfig(widths=(8, 8, 8)).build(8, 2)
    return FitContext(
        model=ModelSpec("small", "identity", LinearHeadConfig()),
        classes=("a", "b"),
        image_size=8,
        network=Network(nn.Identity(), head),
        protocol=Protocol(**fields),
        regime="centralized",
        data=of_one_array(maps_part(70, 1), maps_part(40, 2)),
        prepare=PREPARE,
        data_seed=5,
        fit_seed=6,
        folder=folder,
        device=CPU,
    )


def without_clock(outcome: FitOutcome) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in outcome.history]


def stopping_after(batches: int) -> Any:
    left = iter(range(batches))
    return lambda: next(left, None) is None


def test_it_learns_and_takes_the_best_epochs_weights(tmp_path: Path) -> None:
    given = context(tmp_path, epochs=12, learning_rate=0.01)
    outcome = fit(given)
    accuracies = [row["val_accuracy"] for row in outcome.history]
    assert max(accuracies) > 0.9
    assert outcome.columns["best_epoch"] == int(np.argmax(accuracies))
    predicted = outcome.predictor.of_part(given.data.val)
    assert predicted.shape == (40, 2)
    assert np.mean(predicted.argmax(1) == given.data.val.labels) == pytest.approx(max(accuracies))
    saved = load_file(tmp_path / BEST)
    assert all(torch.equal(saved[name], tensor) for name, tensor in given.module.state_dict().items())


@pytest.mark.parametrize("stop_after", [2, 5, 9, 14])
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_stopped_fit_goes_on_bit_for_bit(tmp_path: Path, stop_after: int, schedule: str) -> None:
    fields = {"schedule": schedule, "schedule_patience": 0, "optimizer": "adam", "epochs": 4}
    whole = context(tmp_path / "whole", **fields)
    expected = fit(whole)
    stopped = context(tmp_path / "stopped", **fields)
    with pytest.raises(Interrupted):
        fit(replace(stopped, should_stop=stopping_after(stop_after)))
    resumed = context(tmp_path / "stopped", **fields)
    outcome = fit(resumed)
    assert without_clock(outcome) == without_clock(expected)
    state = whole.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in resumed.module.state_dict().items())


def test_early_stopping_waits_its_patience_and_is_remembered(tmp_path: Path) -> None:
    fields = {"epochs": 30, "early_stopping_patience": 2, "learning_rate": 1e-12}
    given = context(tmp_path, **fields)
    outcome = fit(given)
    assert len(outcome.history) == outcome.columns["best_epoch"] + 1 + 2
    again = fit(context(tmp_path, **fields))
    assert without_clock(again) == without_clock(outcome)


def test_a_finished_fit_is_not_trained_again(tmp_path: Path) -> None:
    first = fit(context(tmp_path))
    assert (tmp_path / LAST).is_file()
    events: list[dict[str, Any]] = []
    second = fit(replace(context(tmp_path), on_event=events.append))
    assert without_clock(second) == without_clock(first)
    assert not [event for event in events if event["event"] == "batch"]


def test_the_plateau_cuts_the_rate_by_three_after_three_epochs_without_a_better_accuracy(tmp_path: Path) -> None:
    fields = {"epochs": 14, "learning_rate": 1e-5, "early_stopping_patience": 14, "schedule_patience": 2}
    history = fit(context(tmp_path, **fields)).history
    rate, best, waited, expected = 1e-5, -1.0, 0, []
    for row in history:
        expected.append(rate)
        waited = 0 if row["val_accuracy"] > best else waited + 1
        best = max(best, row["val_accuracy"])
        if waited == 3:
            rate, waited = rate / 3, 0
    assert expected[-1] < 1e-5
    assert [row["learning_rate"] for row in history] == pytest.approx(expected)


def test_accumulated_halves_see_the_same_images(tmp_path: Path) -> None:
    whole = TrainBatches(maps_part(70, 1), PREPARE, 16, seed=3, epoch=2)
    halves = replace(whole, parts=2)
    labels = torch.cat([batch[1] for batch in whole])
    assert torch.equal(labels, torch.cat([batch[1] for batch in halves]))
    assert (len(whole), len(halves)) == (4, 8)
    outcome = fit(replace(context(tmp_path), micro_batches=2))
    assert len(outcome.history) == 4


class SlowToJudge(nn.Module):
    """A head that takes its time outside training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if not self.training:
            time.sleep(0.2)
        logits: torch.Tensor = self.layer(maps.float().mean((2, 3)))
        return logits


def test_the_seconds_of_training_hold_no_validation(tmp_path: Path) -> None:
    """70 images in batches of 16: 64 are trained on in an epoch; validation is one batch, of at least 0.2 s."""
    given = replace(context(tmp_path, epochs=2), network=Network(nn.Identity(), SlowToJudge()))
    history = fit(given).history
    assert [row["images_trained"] for row in history] == [64, 64]
    assert all(0 < row["seconds_training"] <= row["seconds"] - 0.2 for row in history)


@pytest.mark.parametrize("batch_size", [16, 5])
def test_pieces_of_a_batch_take_the_whole_batchs_step(tmp_path: Path, batch_size: int) -> None:
    """Without dropout and BatchNorm the accumulated gradient is the batch's, pieces of 3 and 2 images included."""
    fields = {"epochs": 2, "batch_size": batch_size, "optimizer": "sgd", "learning_rate": 0.5, "schedule": "none"}
    states, notes = [], []
    for micro_batches in (1, 2):
        torch.manual_seed(1)
        network = Network(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)))
        given = context(tmp_path / str(micro_batches), **fields)
        given = replace(given, network=network, micro_batches=micro_batches, data=in_float32(given.data))
        notes.append(fit(given).notes)
        states.append(given.module.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=0, atol=1e-6)
    assert notes == [[], [f"each batch of {batch_size} images computed in 2 pieces, their gradients added up"]]


def in_float32(data: FitData) -> FitData:
    wider = lambda part: Rows(part.inputs[:].astype(np.float32), np.arange(len(part)))  # noqa: E731
    return FitData(*(replace(part, inputs=wider(part)) for part in (data.train, data.val)))


def test_a_piece_has_two_images_at_least() -> None:
    assert [pieces_of(size, 4) for size in (1, 2, 3, 4, 7, 8, 32)] == [1, 1, 1, 2, 3, 4, 4]


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    part = maps_part(50, 1)
    first, again = TrainBatches(part, PREPARE, 10, 3, 0), TrainBatches(part, PREPARE, 10, 3, 0)
    later = replace(first, epoch=1)
    assert all(torch.equal(one[0], two[0]) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one[1], two[1]) for one, two in zip(first, later, strict=True))
    assert sum(len(labels) for _, labels in first) == 50


def test_images_become_normalized_channels_last_tensors() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 255
    tensor = PREPARE(images)
    assert tensor.shape == (3, 3, 4, 4)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(tensor[0], torch.full((3, 4, 4), -2.0))
    assert torch.equal(tensor[1], torch.full((3, 4, 4), 2.0))


def test_a_frozen_backbone_keeps_its_statistics(tmp_path: Path) -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network = Network(backbone, LinearHead(4, 2)).freeze_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    network.train()
    network(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert backbone[0].weight.grad is None


def test_training_draws_from_every_view_and_validation_from_none() -> None:
    part = maps_part(60, 1)
    views = tuple(np.full_like(part.inputs, number) for number in (1, 2, 3))
    train = TrainBatches(replace(part, views=views), PREPARE, 20, seed=3, epoch=0)
    firsts = torch.cat([inputs[:, 0, 0, 0] for inputs, _ in train])
    shares = [float((firsts == number).float().mean()) for number in (1, 2, 3)]
    assert all(0.1 < share < 0.4 for share in shares)
    assert 0.1 < 1 - sum(shares) < 0.4
    plain = torch.cat([inputs for inputs, _ in EvalBatches(replace(part, views=views), PREPARE)])
    assert torch.equal(plain, torch.from_numpy(np.asarray(part.inputs)))


def test_folding_keeps_the_map_and_gives_up_quietly_on_what_cannot_be_traced() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    backbone[1].running_mean.uniform_(-1, 1)
    backbone[1].running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 8, 8)
    whole = folded(backbone)
    assert not [module for module in whole.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        torch.testing.assert_close(whole(images), backbone.eval()(images))

    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(images) if images.sum() > 0 else -images

    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layers[:1](images)

    for module in (Fickle(), Sliced()):
        assert folded(module) is module


@pytest.mark.parametrize("stop_after", [None, 3, 14, 18])
def test_a_refit_sees_validation_images_too_and_goes_on_bit_for_bit(tmp_path: Path, stop_after: int | None) -> None:
    fields = {"epochs": 3, "refit": True}
    whole = context(tmp_path / "whole", **fields)
    plain = fit(context(tmp_path / "plain", epochs=3))
    expected = fit(whole)
    assert without_clock(expected) == without_clock(plain)
    assert expected.columns["refit_epochs"] == plain.columns["best_epoch"] + 1
    assert "validation images (110)" in expected.notes[0]
    plain_state = load_file(tmp_path / "plain" / BEST)
    state = whole.module.state_dict()
    assert not all(torch.equal(state[name], tensor) for name, tensor in plain_state.items())
    if stop_after is not None:
        with pytest.raises(Interrupted):
            fit(replace(context(tmp_path / "stopped", **fields), should_stop=stopping_after(stop_after)))
        fit(context(tmp_path / "stopped", **fields))
        resumed = load_file(tmp_path / "stopped" / BEST)
        assert all(torch.equal(state[name], tensor) for name, tensor in resumed.items())


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_backbones_map_is_the_same_when_it_is_folded(name: str) -> None:
    torch.manual_seed(3)
    network = MODELS.get(name).build(2).eval()
    size, _ = effective_size(BACKBONES.get(MODELS.get(name).backbone), 32)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        plain = network.backbone(images)
        difference = folded(network.backbone)(images) - plain
    assert difference.norm() <= 1e-5 * plain.norm()


@pytest.mark.parametrize(("large", "saved"), [(True, [0, 2]), (False, [0, 1, 2, 3])])
def test_a_large_state_is_saved_when_its_time_is_a_tenth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, saved: list[int]
) -> None:
    """Each look at the clock is a second: saving takes one, so the next one is due nine later."""
    monkeypatch.setattr(callbacks, "LARGE", 0 if large else 10**9)
    seconds = iter([100, 100, 101, 105, 111, 111, 112, 113] if large else range(100, 200))
    checkpoint = BestCheckpoint(tmp_path, clock=lambda: float(next(seconds)))
    written: list[int] = []
    module = SimpleNamespace(
        val_tally=SimpleNamespace(means=lambda: (0.0, -2.0)), parameters=lambda: [nn.Parameter(torch.zeros(3))]
    )
    monkeypatch.setattr(callbacks, "Classifier", SimpleNamespace)
    for epoch in range(4):

        def save(path: Path, number: int = epoch) -> None:
            path.write_text("state")
            written.append(number)

        trainer: Any = SimpleNamespace(current_epoch=epoch, save_checkpoint=save)
        checkpoint.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert written == saved


def test_a_large_fit_goes_on_bit_for_bit_from_an_earlier_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "LARGE", 0)
    whole = fit(context(tmp_path / "whole"))
    monkeypatch.setattr(callbacks, "SHARE", 1e-9)
    with pytest.raises(Interrupted):
        fit(replace(context(tmp_path / "stopped"), should_stop=stopping_after(3 * 4 + 1)))
    again = fit(context(tmp_path / "stopped"))
    assert without_clock(again) == without_clock(whole)
    states = [load_file(tmp_path / name / BEST) for name in ("whole", "stopped")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
