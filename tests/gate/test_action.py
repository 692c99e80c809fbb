"""The composite action and the CI recipes of the docs, their steps run as a runner would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INPUT = re.compile(r"\$\{\{ inputs\.(\w+) \}\}")


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return loaded


def perform(action: dict[str, Any], step: str, given: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one step with its environment filled in from the inputs and their defaults."""
    inputs = {name: str(about.get("default", "")) for name, about in action["inputs"].items()} | given
    found = next(one for one in action["runs"]["steps"] if one["name"] == step)
    variables = {name: INPUT.sub(lambda match: inputs[match[1]], value) for name, value in found["env"].items()}
    bench = folder / "bin" / "bench"
    bench.parent.mkdir(exist_ok=True)
    bench.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    bench.chmod(0o755)
    where = {"PATH": f"{bench.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-e", "-c", found["run"]], env={**os.environ, **where, **variables}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_inputs_reach_the_shell_as_variables_and_are_declared(action: dict[str, Any]) -> None:
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert set(INPUT.findall(str(step["env"]))) <= set(action["inputs"])
        assert step["shell"] == "bash"


@pytest.mark.slow
def test_its_steps_run_and_hold_a_run_against_its_own_baseline(action: dict[str, Any], tmp_path: Path) -> None:
    protocol = tmp_path / "tiny.toml"
    protocol.write_text('base = "demo"\nimage_size = 32\nepochs = 1\n')
    given = {
        "models": "deepmedix", "datasets": "phantom-brain", "protocol": str(protocol), "baseline": "base.json",
        "out": "run; touch owned",
    }  # fmt: skip
    ran = perform(action, "run", given, tmp_path)
    assert ran.returncode == 0, ran.stderr
    update = [sys.executable, "-m", "bench", "check", given["out"], "--baseline", "base.json", "--update"]
    subprocess.run(update, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    held = perform(action, "check", given, tmp_path)
    assert held.returncode == 0, held.stdout + held.stderr
    assert (tmp_path / given["out"] / "check.xml").is_file()
    assert not (tmp_path / "owned").exists()


def test_the_recipes_of_the_docs_are_valid_and_name_real_options() -> None:
    from bench.cli.check import COMMANDS

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.S)
    github, gitlab = (yaml.safe_load(block) for block in blocks)
    assert set(github["jobs"]["bench"]["steps"][-1]["with"]) <= set(
        yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    )
    check = next(line for line in gitlab["bench"]["script"] if line.startswith("bench check"))
    options = {name.strip("-").replace("-", "_") for name in re.findall(r"--[\w-]+", check)}
    assert options <= set(COMMANDS["check"].__annotations__)
