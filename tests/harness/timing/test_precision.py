"""Half precision on a CPU: allowed where the processor has the instructions and gains by them, refused elsewhere."""

from __future__ import annotations

import pytest
import torch

from bench.core.config import Protocol, Runtime
from bench.core.errors import UserError
from bench.harness import networks
from bench.harness.networks import bf16_gain, bf16_instructions, check_runtime, precision_note
from bench.harness.timing.parts import Asked
from bench.harness.timing.times import timing_row
from models.registry import MODELS

CPU = Runtime(device="cpu")


@pytest.mark.parametrize(
    ("instructions", "gain", "sentence"),
    [(False, 2.0, "this one lacks; use --set precision=32"), (True, 0.81, "reaches 0.81 of its speed in 32 bits")],
)
def test_bf16_is_refused_where_it_cannot_pay(
    monkeypatch: pytest.MonkeyPatch, instructions: bool, gain: float, sentence: str
) -> None:
    monkeypatch.setattr(networks, "bf16_instructions", lambda: instructions)
    monkeypatch.setattr(networks, "bf16_gain", lambda size=224: gain)
    with pytest.raises(UserError, match=sentence):
        check_runtime(Protocol(precision="bf16"), CPU)


def test_bf16_is_allowed_where_it_pays_and_fp16_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "bf16_instructions", lambda: True)
    monkeypatch.setattr(networks, "bf16_gain", lambda size=224: 1.5)
    check_runtime(Protocol(precision="bf16"), CPU)
    with pytest.raises(UserError, match="fp16 runs on GPUs only"):
        check_runtime(Protocol(precision="fp16"), CPU)


def test_where_bf16_is_slower_on_small_images_it_is_told_and_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "bf16_gain", lambda size=224: 0.78 if size < 150 else 1.5)
    small = Protocol(precision="bf16", image_size=96)
    assert "slower at 96 pixels here" in precision_note(small, CPU)
    assert "reaches 0.78 of its speed in 32 bits, and 1.50 at 224 pixels" in precision_note(small, CPU)
    for other in (Protocol(precision="bf16"), Protocol(image_size=96), small.model_copy(update={"tuning": "head"})):
        assert precision_note(other, CPU) == ""


@pytest.mark.skipif(not bf16_instructions(), reason="this processor has no bfloat16 instructions")
def test_the_gain_is_measured_and_bf16_is_timed_as_such(tiny_backbone: None) -> None:
    assert bf16_gain() > 0
    protocol = Protocol(image_size=32, timing_batch_size=2, precision="bf16")
    row = timing_row(Asked(MODELS.get("linear@tiny"), 3, 32, protocol, torch.device("cpu")), None, "quick", print)
    assert row["timed_precision"] == "bf16"
    assert row["train_batch_ms"] > 0
