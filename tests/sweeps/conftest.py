"""Sweeps small enough to run in a blink a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch import nn

from bench.core.config import Runtime, load_protocol
from bench.harness.plan import Request
from models.backbones.registry import BACKBONES, Backbone
from sweeps.sweep import Asked
from tools.postgres import Postgres


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())


if "tiny" not in BACKBONES.names():
    BACKBONES.register("tiny", Backbone("tiny", 8, _tiny))

SMALL = ["image_size=32", "epochs=3", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
SPACE = """
[protocol]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
batch_size = [8, 16]
"""

MakeAsked = Callable[..., Asked]


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture
def make_asked(tmp_path: Path, space_file: Path) -> MakeAsked:
    """What a small sweep is asked for."""

    def make(trials: int = 4, overrides: tuple[str, ...] = (), **changes: Any) -> Asked:
        known = {"model": "linear@tiny", "regime": "centralized", "seeds": "1", "split": "grouped"}
        about = {name: changes.pop(name, value) for name, value in known.items()}
        protocol = load_protocol("demo", [*SMALL, *overrides])
        request = Request(about["model"], "phantom-brain", protocol, about["regime"], about["seeds"], about["split"])
        fixed: dict[str, Any] = {
            "objectives": ("accuracy:max",), "folder": tmp_path / "run", "runtime": Runtime(progress="none"),
            "space": space_file, "test": False,
        }  # fmt: skip
        return Asked(request, trials, **(fixed | changes))

    return make


@pytest.fixture
def silent() -> Console:
    return Console(quiet=True)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of the test's own on loopback; a skip where there is none."""
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    try:
        made = Postgres()
    except RuntimeError as missing:
        pytest.skip(str(missing))
    with made:
        yield made
