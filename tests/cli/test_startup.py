"""Commands that compute nothing load neither torch nor Lightning; seen in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from reports.write import is_current

SMALL = ["image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
GRID = ["run", "--models", "linear@mobilenet_v2", "--datasets", "phantom-brain", "--protocol", "demo", "--seeds", "1"]
RUN = [*GRID, "--regimes", "centralized", "--progress", "none", *(word for field in SMALL for word in ("--set", field))]
HEAVY = ("torch", "torchvision", "pytorch_lightning")


def loaded_by(arguments: list[str]) -> tuple[int, list[str]]:
    """The exit code of a command in a process of its own, and which heavy packages it had loaded at its end."""
    code = f"""
import json, sys
sys.argv = ["bench", *{arguments!r}]
from bench.cli.app import main
try:
    main()
    code = 0
except SystemExit as ended:
    code = ended.code or 0
print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, loaded = json.loads(ended.stdout.splitlines()[-1])
    return exit_code, loaded


@pytest.mark.parametrize(
    "arguments", [["models", "list"], ["data", "list"], ["doctor"], ["regimes"]], ids=lambda words: " ".join(words)
)
def test_listings_load_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(arguments) == (0, [])


def test_a_finished_run_and_its_report_load_nothing_heavy(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, [*RUN, *out]).exit_code == 0
    environment = (tmp_path / "run" / "environment.json").read_bytes()
    assert loaded_by([*RUN, *out]) == (0, [])
    assert (tmp_path / "run" / "environment.json").read_bytes() == environment
    page = tmp_path / "run" / "report" / "index.html"
    drawn = page.stat().st_mtime_ns
    assert loaded_by([*RUN, *out]) == (0, [])
    assert page.stat().st_mtime_ns == drawn, "nothing changed, so nothing is drawn again"
    (cell,) = (tmp_path / "run" / "cells").iterdir()
    (cell / "history.parquet").rename(cell / "away.parquet")
    assert not is_current(page, tmp_path / "run")
    assert loaded_by(["report", str(tmp_path / "run")]) == (0, [])
    assert page.stat().st_mtime_ns > drawn
    assert is_current(page, tmp_path / "run")
    # The check can fail: one more seed is a cell that is left.
    assert loaded_by([*RUN, "--seeds", "2", *out]) == (0, list(HEAVY))
