"""A run that is killed and started again ends like one that was not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def kill_resume() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"
    spec = importlib.util.spec_from_file_location("kill_resume", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_three_kills_change_nothing(kill_resume: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_resume, "GRID", ["--models", "deepmedix", "--datasets", "phantom-brain", "--seeds", "1"])
    alive, cells = kill_resume.run_with_kills(tmp_path / "killed", epochs=6, kills=3, seed=3, spread=2.0)
    kill_resume.finish(tmp_path / "whole", epochs=6)
    assert alive >= 2
    assert cells == 1
    assert kill_resume.contents(tmp_path / "killed") == kill_resume.contents(tmp_path / "whole")
