"""The search for a small model beside DeepMediX: what may be found, and that both sides search alike."""

from __future__ import annotations

import tomllib
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from bench.core.config import load_protocol
from bench.harness.networks import model_cost
from models.registry import MODELS
from sweeps.space import load_space

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "sweeps" / "spaces" / "deepmedix-plus.toml"
MOST_FLOPS_M, MOST_PARAMS_M = 613.0, 3.5


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**run_path(str(ROOT / "benchmarks" / "deepmedix_plus.py")))


def _too_large(names: list[str]) -> list[str]:
    costs = {name: model_cost(MODELS.get(name), 4, 224) for name in names}
    return [name for name, cost in costs.items() if cost["flops_m"] > MOST_FLOPS_M or cost["params_m"] > MOST_PARAMS_M]


@pytest.mark.long
def test_every_model_of_the_space_is_small() -> None:
    names = tomllib.loads(SPACE.read_text())["model"]["name"]
    assert len(names) >= 15
    assert not _too_large(names)


def test_a_wider_head_is_too_large_and_the_papers_is_not() -> None:
    assert _too_large(["deepmedix", "deepmedix-wide"]) == ["deepmedix-wide"]
    assert "deepmedix-wide" not in tomllib.loads(SPACE.read_text())["model"]["name"]


def test_both_sides_search_the_same_fields_of_the_protocol(script: SimpleNamespace, tmp_path: Path) -> None:
    for frozen in (False, True):
        with_models, alone = script.spaces(frozen, "mobilenet_v2")
        assert with_models["protocol"] == alone["protocol"]
        (tmp_path / "space.toml").write_text(script.as_toml(with_models))
        dimensions = load_space(tmp_path / "space.toml", "centralized").dimensions
        assert [one.name for one in dimensions] == [*with_models["protocol"], "model.name"]


def test_a_frozen_search_leaves_out_what_means_nothing_there(script: SimpleNamespace) -> None:
    tables, _ = script.spaces(True, "mobilenet_v2")
    assert "layer_decay" not in tables["protocol"]
    assert tables["protocol"]["mix"] == ["none", "mixup"]
    assert set(tables["model"]["name"]) == {
        "deepmedix",
        "deepmedix-gmp",
        "deepmedix-noskip",
        "deepmedix-nodropout",
        "deepmedix-noskip-nodropout",
        "mobilenet_v2",
    }


def test_what_was_found_is_a_protocol() -> None:
    found = load_protocol(str(ROOT / "benchmarks" / "deepmedix_plus.toml"))
    assert (found.class_balance, found.label_smoothing, found.optimizer) == ("resample", 0.1, "adamw")
