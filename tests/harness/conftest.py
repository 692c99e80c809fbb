"""A grid small enough to run in a second a cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.config import Runtime, load_protocol
from bench.executors.run import Summary, execute
from bench.harness.plan import Plan, Request, make_plan
from bench.store.run import Run


@pytest.fixture(autouse=True, scope="session")
def _tiny(tiny_backbone: None) -> None:
    """Known from the first of these tests on: what other folders' tests were collected from does not hold it."""


SMALL = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]

MakePlan = Callable[..., Plan]
RunPlan = Callable[..., Summary]


@pytest.fixture
def small_plan() -> MakePlan:
    """A plan over tiny models and the embedded brain images."""

    def make(models: str = "linear@tiny", overrides: tuple[str, ...] = (), **changes: Any) -> Plan:
        protocol = load_protocol("demo", [*SMALL, *overrides])
        asked = {"datasets": "phantom-brain", "regimes": "centralized", "seeds": "1"} | changes
        return make_plan(Request(models=models, protocol=protocol, **asked))

    return make


@pytest.fixture
def run_plan(tmp_path: Path) -> RunPlan:
    """Execute a plan in a folder of the test's own, silently."""

    def run(plan: Plan, name: str = "run") -> Summary:
        return execute(plan, Run.create(tmp_path / name), Runtime(), [])

    return run
