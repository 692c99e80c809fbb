"""A grid of a second a cell whose model comes from a plugin, as a worker must be able to learn of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.core.config import Runtime, load_protocol
from bench.core.plugins import PLUGINS, load_plugin
from bench.executors.run import execute
from bench.harness.plan import Plan, Request, make_plan
from bench.store.run import Run
from models.backbones.registry import BACKBONES

PLUGIN = """
import os, signal
from pathlib import Path
from torch import nn
from models.backbones.registry import BACKBONES, Backbone

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())

class Deadly(nn.Module):
    '''Kills the process that it is used in, as often as there are files to remove.'''

    def forward(self, x):
        for bullet in sorted(Path(os.environ.get("BENCH_TEST_BULLETS", "/nowhere")).glob("*")):
            bullet.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

def deadly():
    return nn.Sequential(Deadly(), *tiny())

def broken():
    raise ValueError("no such luck")

for name, build in {"tiny": tiny, "deadly": deadly, "broken": broken}.items():
    if name not in BACKBONES.names():
        BACKBONES.register(name, Backbone(name, 8, build))
"""
RECIPE = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
ONE_THREAD = Runtime(threads=1)


class Heard:
    """A listener that remembers, and does something at an event."""

    def __init__(self, on_event: Callable[[str, dict[str, Any]], None] = lambda key, event: None) -> None:
        self.begun: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended: list[str] = []
        self._on_event = on_event

    def started(self, cell: Any, folder: Path) -> None:
        self.begun.append(cell.key)

    def event(self, key: str, event: dict[str, Any]) -> None:
        self.events.append((key, event))
        self._on_event(key, event)

    def finished(self, stored: Any) -> None:
        self.ended.append(stored.key)

    def waiting(self, count: int) -> None:
        pass

    def lost(self) -> list[dict[str, Any]]:
        return [event for _, event in self.events if event["event"] == "lost"]


@pytest.fixture
def heard() -> type[Heard]:
    """The listener."""
    return Heard


@pytest.fixture(autouse=True, scope="session")
def _plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    known = "tiny" in BACKBONES.names()
    path = tmp_path_factory.mktemp("plugin") / "workers_plugin.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    assert known or "tiny" in BACKBONES.names()
    assert str(path.resolve()) in PLUGINS


@pytest.fixture
def grid() -> Callable[..., Plan]:
    """A plan over models of the plugin."""

    def make(models: str, overrides: tuple[str, ...] = (), **changes: Any) -> Plan:
        protocol = load_protocol("demo", [*RECIPE, *overrides])
        asked = {"datasets": "phantom-brain", "regimes": "centralized", "seeds": "1"} | changes
        return make_plan(Request(models=models, protocol=protocol, **asked))

    return make


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, Any]]:
    """Everything of a run that is not a clock's reading."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        module: ModuleType = importlib.import_module("kill_kinds")
    found: Callable[[Path], dict[str, Any]] = module.contents
    return found


@pytest.fixture
def alone(tmp_path: Path, contents: Any) -> Callable[[Plan], dict[str, Any]]:
    """What a plan's cells contain when they are run one after the other in this process."""

    def run(plan: Plan) -> dict[str, Any]:
        execute(plan, Run.create(tmp_path / "alone"), ONE_THREAD, [])
        found: dict[str, Any] = contents(tmp_path / "alone")
        return found

    return run
