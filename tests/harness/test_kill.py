"""A run that is killed and started again ends like one that was not."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def kill_resume(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("kill_resume")


@pytest.mark.slow
def test_three_kills_change_nothing(kill_resume: ModuleType, tmp_path: Path) -> None:
    kill_resume.prepare(tmp_path)
    kill_resume.Forked(["--version"], {}, tmp_path / "warm.log").wait()
    full = kill_resume.kinds("")["full"]
    tally = kill_resume.torment(kill_resume.Victim(full, tmp_path, ""), kills=3, seed=3)
    assert tally.alive == 3
    assert tally.equal == tally.compared > 0
