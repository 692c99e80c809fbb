"""Stored maps are of the code that asks for them: an edited plugin, another device or package gets its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.plugins import load_plugin
from models import features
from models.backbones import code
from models.backbones.code import code_of
from models.backbones.registry import BACKBONES
from models.features import feature_maps
from models.features import pooled as features_pooled
from models.network import UNIT
from models.recipes.batches import Preparation

PREPARE = Preparation(UNIT, None, torch.device("cpu"), channels_last=False)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)

LAYER = """
from torch import nn
from models.backbones.registry import BACKBONES, Backbone

class Scaled(nn.Module):
    def forward(self, images):
        return FACTOR * images

BACKBONES.register("edited", Backbone("edited", 3, Scaled, min_size=8))
"""
BUILD = """
from torch import nn
from models.backbones.registry import BACKBONES, Backbone

def build():
    return nn.Sequential(nn.AvgPool2d(FACTOR))

BACKBONES.register("edited", Backbone("edited", 3, build, min_size=8))
"""
HELPED = """
from helper_of_a_plugin import times
from torch import nn
from models.backbones.registry import BACKBONES, Backbone

class Helped(nn.Module):
    def forward(self, images):
        return times(images)

BACKBONES.register("edited", Backbone("edited", 3, lambda: Helped(), min_size=8))
"""


def forget() -> None:
    BACKBONES._items.pop("edited", None)
    sys.modules.pop("helper_of_a_plugin", None)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(features, "cache", lambda: tmp_path / "cache")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    forget()


def loaded(path: Path, text: str) -> nn.Module:
    """The backbone that a plugin's text registers."""
    forget()
    path.write_text(text)
    load_plugin(path)
    return BACKBONES.get("edited").build()


def stored(backbone: nn.Module) -> np.ndarray[Any, Any]:
    identity = {"backbone": "edited", "weights": "seed 1", "dataset": "d"}
    return np.array(feature_maps(backbone, IMAGES, PREPARE, identity, lambda event: None, lambda: False))


def fresh(backbone: nn.Module) -> np.ndarray[Any, Any]:
    maps: np.ndarray[Any, Any] = backbone(PREPARE(IMAGES)).to(torch.float16).numpy()
    return maps


@pytest.mark.parametrize("text", [LAYER, BUILD], ids=["the layer's code", "the function that builds"])
def test_an_edited_plugin_gets_new_maps(tmp_path: Path, text: str) -> None:
    for factor in ("1", "2", "4"):
        backbone = loaded(tmp_path / "plugin.py", text.replace("FACTOR", factor))
        assert np.array_equal(stored(backbone), fresh(backbone))
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 3


def test_what_a_plugin_takes_from_its_own_files_counts(tmp_path: Path) -> None:
    for factor in ("1", "2"):
        (tmp_path / "helper_of_a_plugin.py").write_text(f"def times(images):\n    return {factor} * images\n")
        # The same text is not executed twice by one process, and this stands for two processes.
        backbone = loaded(tmp_path / "plugin.py", f"{HELPED}\n# {factor}")
        code_now = code_of(backbone, BACKBONES.get("edited").build)
        assert np.array_equal(stored(backbone), fresh(backbone))
        (tmp_path / "helper_of_a_plugin.py").write_text("def times(images):\n    return 9 * images\n")
        assert code_of(backbone, BACKBONES.get("edited").build) != code_now


def test_unchanged_code_finds_its_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stored(loaded(tmp_path / "plugin.py", LAYER.replace("FACTOR", "3")))
    monkeypatch.setattr(features, "_compute", None)
    assert np.array_equal(stored(BACKBONES.get("edited").build()), first)


def test_means_are_made_once_and_kept_without_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded(tmp_path / "plugin.py", LAYER.replace("FACTOR", "3"))
    given = (backbone, IMAGES, PREPARE, {"backbone": "edited"}, lambda event: None, lambda: False)
    maps = feature_maps(*given)
    expected = np.asarray(maps, np.float32).mean((2, 3), keepdims=True)
    made = []
    monkeypatch.setattr(features, "pooled", lambda maps: made.append(1) or features_pooled(maps))
    for _ in range(3):
        means = feature_maps(*given, means=True)
        assert means.dtype == np.float32
        assert np.array_equal(means, expected)
        for path in (tmp_path / "cache" / "features").glob("*.npy"):
            if not path.name.endswith(".means.npy"):
                path.unlink()
    assert made == [1]


def test_the_key_knows_the_device_and_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = loaded(tmp_path / "plugin.py", LAYER.replace("FACTOR", "5"))
    identity = {"backbone": "edited"}
    keys = {features._key(backbone, PREPARE, identity)}
    keys.add(features._key(backbone, replace(PREPARE, device=torch.device("cuda")), identity))
    monkeypatch.setattr(code, "version", lambda package: f"another {package}")
    keys.add(features._key(backbone, PREPARE, identity))
    assert len(keys) == 3


def test_a_listed_backbone_has_one_code_in_every_build() -> None:
    chosen = BACKBONES.get("resnet18")
    assert code_of(chosen.build(), chosen.build) == code_of(chosen.build(), chosen.build)
    assert code_of(chosen.build(), chosen.build) != code_of(BACKBONES.get("squeezenet1_1").build(), chosen.build)


def _objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _others(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 1, 1, 1), np.float16))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\3\4 and no more"),
        _objects,
        _others,
    ],
    ids=["cut off", "empty", "an archive", "objects", "of other images"],
)
def test_maps_that_cannot_be_read_are_made_again(tmp_path: Path, harm: Any) -> None:
    backbone = loaded(tmp_path / "plugin.py", LAYER.replace("FACTOR", "2"))
    stored(backbone)
    (path,) = (tmp_path / "cache" / "features").glob("*.npy")
    harm(path)
    assert np.array_equal(stored(backbone), fresh(backbone))
