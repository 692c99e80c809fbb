"""Whether compiling pays is weighed before a run, and told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.core.config import Protocol, Runtime
from bench.executors import estimate
from bench.executors.show import settled
from bench.harness.plan import Plan, Request, make_plan


def planned(**fields: object) -> Plan:
    protocol = Protocol(image_size=32, synthetic_images=60, weights="none", **fields)  # type: ignore[arg-type]
    return make_plan(Request("deepmedix", "phantom-brain", protocol, regimes="centralized", seeds="2"))


@pytest.mark.parametrize(
    ("epochs", "tuning", "on", "words"),
    [
        (10, "full", False, "off: about 108 s of compiling save about 1 s over 10 epochs; it would pay from 1239"),
        (3000, "full", True, "on: about 108 s of compiling save about 262 s over 3000 epochs, paid back after 1239"),
        (3000, "head", False, "nothing to compile"),
    ],
)
def test_the_plan_decides_and_says_why(
    monkeypatch: pytest.MonkeyPatch, epochs: int, tuning: str, on: bool, words: str
) -> None:
    monkeypatch.setattr(estimate, "machine_rate", lambda: 2.4e6)
    monkeypatch.setattr(estimate, "_forward_operations", lambda model, size: 2.4e6 / 480)  # 480 images a second forward
    plan, told = planned(epochs=epochs, tuning=tuning), io.StringIO()
    console = Console(file=told, width=400)
    found = settled(console, plan, plan.cells, Runtime(compile=True))
    # Two cells of 60 images, 3 x 0.8 forward passes a step: 0.6 s an epoch, of which 1 - 1/1.17 are saved.
    assert found.compile is on
    assert words in told.getvalue()


def test_nothing_is_weighed_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "machine_rate", None)
    plan = planned()
    runtime = Runtime()
    assert settled(Console(), plan, plan.cells, runtime) == runtime
