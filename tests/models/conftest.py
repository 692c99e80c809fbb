"""A backbone of three layers with its state, a place for downloads, and a web server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.backbones.registry import BACKBONES, Backbone, Published
from models.heads.config import LinearHeadConfig
from models.registry import ModelSpec
from models.weights import initial as weights


def tiny_backbone() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where downloads go, and no memory of hosts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    weights._host_problem.cache_clear()
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelSpec]:
    """Register the tiny backbone under a name, with published weights or without, for one test."""

    def add(name: str, published: Published | None = None) -> ModelSpec:
        monkeypatch.setitem(BACKBONES._items, name, Backbone(name, 4, tiny_backbone, weights=published))
        return ModelSpec(f"{name}-model", name, LinearHeadConfig())

    return add


@pytest.fixture
def tiny(register: Callable[..., ModelSpec]) -> ModelSpec:
    return register("tiny")


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return tiny_backbone().state_dict()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder that it serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=partial(served.serve_forever, poll_interval=0.02))
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}", folder
    served.shutdown()
    thread.join()
    served.server_close()
