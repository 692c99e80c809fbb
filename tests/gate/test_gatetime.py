"""Times in turns: who is asked when, and what is made of the samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.gate import timing as subject
from bench.gate.margins import Margins

# A stand-in that answers at once with the times that its name asks for.
STUB = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"train_batch_ms": SPEED + asked["batches"] / 100, "infer_batch_ms": SPEED / 3}), flush=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "cells" / "k"
    folder.mkdir(parents=True)
    spec = {"model": "deepmedix", "dataset": "d", "split": "s", "regime": "r", "seed": 0, "protocol": {}}
    result = {
        "schema": 1, "key": "k", "cell": spec, "metrics": {}, "intervals": {}, "notes": [], "seconds": 1,
        "cost": {"image_size": 64}, "timing": {"batch_size": 4}, "data": {"classes": ["a", "b"]},
    }  # fmt: skip
    (tmp_path / "run" / "plan.json").write_text(json.dumps({"schema": 1, "cells": [{"key": "k", "cell": spec}]}))
    (folder / "result.json").write_text(json.dumps(result))
    return tmp_path / "run"


def stub(path: Path, speed: str) -> str:
    """A program that is started like an interpreter and ignores the code that it is given."""
    code = STUB.replace("SPEED", speed)
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("speed", "expected"), [("100.0", "same"), ("150.0", "worse"), ("60.0", "better"), ("104.0", "same")]
)
def test_slower_by_more_than_the_margin_is_worse(run: Path, tmp_path: Path, speed: str, expected: str) -> None:
    base = stub(tmp_path / "base", "100.0 + __import__('random').random()")
    now = stub(tmp_path / "now", f"{speed} + __import__('random').random()")
    found = subject.time_verdicts(run, base, now, Margins(), rounds=8)
    assert [verdict.metric for verdict in found] == ["train_batch_ms", "infer_batch_ms"]
    assert {verdict.outcome for verdict in found} == {expected}
    assert "in turns, margin 10 %" in found[0].why


def test_a_python_that_is_not_there(run: Path) -> None:
    with pytest.raises(UserError, match="cannot be started"):
        subject.time_verdicts(run, "/nowhere/python", sys.executable, Margins(), rounds=2)


def test_an_installation_without_the_model_says_its_last_word(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text(f"#!{sys.executable}\nraise SystemExit('no such package')\n")
    path.chmod(0o755)
    with pytest.raises(UserError, match=r"could not time deepmedix.*no such package"):
        subject.time_verdicts(run, str(path), str(path), Margins(), rounds=2)


@pytest.mark.slow
def test_two_real_interpreters_take_turns(run: Path) -> None:
    found = subject.time_verdicts(run, sys.executable, sys.executable, Margins(time=3.0), rounds=3)
    assert {verdict.outcome for verdict in found} == {"same"}
    assert all((verdict.now or 0) > 0 for verdict in found)
