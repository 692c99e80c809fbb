"""The lean loop of a head's batches computes bit for bit what Lightning's own does, and leaves the same behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from bench.store.layout import LAST
from models.recipes import gradient
from models.recipes.callbacks import Interrupted
from models.recipes.classifier import Classifier
from models.recipes.context import FitContext
from models.recipes.head_loop import HeadLoop
from tests.models.recipes.test_gradient import context, stopping_after, without_clock

Fit = Callable[[FitContext], Any]


def by_lightning(asked: FitContext) -> Any:
    """The same fit through Lightning's own loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "_steps_are_plain", lambda context: False)
        return gradient.fit(asked)


def by_lean_loop(asked: FitContext) -> Any:
    """The fit as it is, which must go through the lean loop."""
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeadLoop, "_step", lambda self, *given: taken.append(1) or _step(self, *given))
        outcome = gradient.fit(asked)
    assert taken
    return outcome


_step = HeadLoop._step


def state_of(asked: FitContext) -> dict[str, torch.Tensor]:
    return asked.module.state_dict()


def assert_same(first: Any, second: Any, place: str = "") -> None:
    """Nested values are equal, tensors bit for bit; seconds are let be."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for name in first:
            if not any(word in str(name) for word in ("seconds", "time")):
                assert_same(first[name], second[name], f"{place}.{name}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), place
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{place}[{number}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), place
    else:
        assert first == second, place


PROTOCOLS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "schedule": "cosine"},
    "average": {"ema_decay": 0.9, "label_smoothing": 0.1},
    "mixup": {"mix": "mixup"},
    "refit": {"refit": True},
    "early": {"epochs": 9, "early_stopping_patience": 1},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_weights_and_history_are_those_of_lightnings_loop(name: str, tmp_path: Path) -> None:
    fits = {}
    for kind, fit in {"own": by_lightning, "lean": by_lean_loop}.items():
        asked = context(tmp_path / kind, **PROTOCOLS[name])
        fits[kind] = (without_clock(fit(asked)), state_of(asked))
    assert_same(fits["own"], fits["lean"])


def test_the_state_to_resume_from_is_the_same_down_to_its_counters(tmp_path: Path) -> None:
    stored = []
    for fit in (by_lightning, by_lean_loop):
        asked = context(tmp_path / fit.__name__)
        fit(asked)
        stored.append(torch.load(asked.folder / LAST, weights_only=True))
    counters = stored[0]["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
    assert counters["completed"] == 4 * (70 // 16)
    assert stored[0]["callbacks"].keys() == stored[1]["callbacks"].keys()
    assert_same(*stored)


@pytest.mark.parametrize(("begins", "ends"), [(by_lightning, by_lean_loop), (by_lean_loop, by_lightning)])
@pytest.mark.parametrize("batches", [6, 8])
def test_either_goes_on_from_what_the_other_left(begins: Fit, ends: Fit, batches: int, tmp_path: Path) -> None:
    undisturbed = context(tmp_path / "undisturbed")
    expected = without_clock(by_lightning(undisturbed))
    stopped = context(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        begins(replace(stopped, should_stop=stopping_after(batches)))
    again = replace(context(tmp_path / "stopped"), folder=stopped.folder)
    assert without_clock(ends(again)) == expected
    assert_same(state_of(again), state_of(undisturbed))


def test_a_callback_that_would_not_be_called_is_refused() -> None:
    class Listens(Callback):
        def on_before_optimizer_step(self, *given: Any) -> None: ...

    with pytest.raises(TypeError, match="Listens has on_before_optimizer_step, which this loop does not call"):
        HeadLoop.into(pl.Trainer(callbacks=[Listens()], logger=False, enable_checkpointing=False))


def test_a_module_that_steps_its_own_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "optimizer_step", lambda self, *given: None)
    with pytest.raises(TypeError, match="Classifier has optimizer_step, which this loop does not call"):
        gradient.fit(context(tmp_path))


def test_pieces_of_batches_and_whole_networks_stay_with_lightnings_loop(tmp_path: Path) -> None:
    asked = context(tmp_path)
    assert gradient._steps_are_plain(asked)
    assert not gradient._steps_are_plain(replace(asked, micro_batches=2))
    assert not gradient._steps_are_plain(context(tmp_path, tuning="full"))
    assert not gradient._steps_are_plain(context(tmp_path, precision="fp16"))
