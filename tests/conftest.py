"""What every test may use: folders of their own, and the real images and weights where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is loaded: threads that spin while they wait make tests crawl on a machine that is busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _nobodys_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of a module or the session begin before `_own_folders`: they do not see the user's folders either."""
    folder = tmp_path_factory.mktemp("nobody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(folder / "home"))
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's datasets or caches."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("BENCH_HOME", str(folder / "home"))
    monkeypatch.setenv("BENCH_CACHE", str(folder / "cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real images, or a skip."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real images are not at ../shared/data")
    return folder


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder with the real ImageNet weights, or a skip."""
    folder = SHARED / "weights"
    if not folder.is_dir():
        pytest.skip("the real weights are not at ../shared/weights")
    return folder


@pytest.fixture(scope="session")
def tiny_backbone() -> None:
    """Registers the backbone `tiny`: one strided convolution with BatchNorm."""
    from torch import nn

    from models.backbones.registry import BACKBONES, Backbone

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())

    if "tiny" not in BACKBONES.names():
        BACKBONES.register("tiny", Backbone("tiny", 8, build))
