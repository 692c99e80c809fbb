"""The project's own check: a small grid on the phantoms against the baseline in git.

After a change that is meant to change metrics, write it anew:

    bench run --models deepmedix,mobilenet_v2 --datasets phantom-brain,phantom-skin --regimes centralized \
        --protocol demo --seeds 1 --out runs/check
    bench check runs/check --baseline benchmarks/baseline.json --update
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = [sys.executable, "-c", "import bench.cli.app; bench.cli.app.main()"]
GRID = [
    "--models", "deepmedix,mobilenet_v2", "--datasets", "phantom-brain,phantom-skin", "--regimes", "centralized",
    "--protocol", "demo", "--seeds", "1",
]  # fmt: skip


@pytest.mark.slow
def test_the_phantoms_hold_against_the_baseline(tmp_path: Path) -> None:
    asked = [*BENCH, "run", *GRID, "--out", str(tmp_path / "check"), "--progress", "none"]
    ran = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    baseline, margins = ROOT / "benchmarks" / "baseline.json", ROOT / "benchmarks" / "margins.toml"
    held = [*BENCH, "check", str(tmp_path / "check"), "--baseline", str(baseline), "--margins", str(margins)]
    checked = subprocess.run(held, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
