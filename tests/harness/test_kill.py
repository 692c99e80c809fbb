"""A run that is killed and started again, or whose disk was full for a while, ends like one that was left alone."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


@pytest.mark.slow
def test_three_kills_change_nothing(tmp_path: Path) -> None:
    kill_resume, kill_kinds = benchmark("kill_resume"), benchmark("kill_kinds")
    kill_kinds.prepare(tmp_path)
    victim = kill_resume.Victim(kill_kinds.kinds("")["fedavg"], tmp_path, "", forks=False)
    tally = kill_resume.torment(victim, kills=3, seed=3)
    assert tally.alive == 3
    assert tally.equal == tally.compared >= 1


def test_every_algorithm_is_killed() -> None:
    from federated.algorithms.registry import ALGORITHMS

    assert set(benchmark("kill_kinds").ALGORITHMS) == set(ALGORITHMS.names())


def may_mount(folder: Path) -> bool:
    if shutil.which("mount") is None or os.geteuid() != 0:
        return False
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "probe", str(folder)], capture_output=True)
    if made.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    return made.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_twenty_full_disks_lose_nothing_and_are_a_sentence_each(tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir()
    if not may_mount(tmp_path / "probe"):
        pytest.skip("a small tmpfs is mounted by root alone")
    command = [sys.executable, str(BENCHMARKS / "full_disk.py"), "--moments", "20", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
