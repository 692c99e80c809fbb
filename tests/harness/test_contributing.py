"""The examples of CONTRIBUTING.md work as they are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.answers import read_answer
from bench.store.run import Run

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n# example: (\w+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
SMALL = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]


def test_every_example_is_there_and_short() -> None:
    assert [name for name, _ in EXAMPLES] == ["model", "dataset", "regime", "metric", "analysis"]
    assert all(len(code.splitlines()) < 40 for _, code in EXAMPLES)


@pytest.mark.slow
def test_the_examples_run_together(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text("\n\n".join(code for _, code in EXAMPLES))
    overrides = [word for field in SMALL for word in ("--set", field)]
    grid = [
        "--models",
        "small,linear@strided",
        "--datasets",
        "stripes",
        "--regimes",
        "half",
        "--seeds",
        "1",
        "--with",
        "surprise",
    ]
    command = ["run", "--plugin", str(plugin), *grid, "--protocol", "demo", *overrides, "--out", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *command, "--json"], capture_output=True, text=True, env=os.environ, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["done"] == 2
    for cell in Run.open(tmp_path / "run").cells():
        assert cell.result is not None
        assert cell.result["metrics"]["top2_accuracy"] == 1.0
        assert cell.result["intervals"]["top2_accuracy"] == [None, None]  # of two classes it never varies
        assert read_answer(cell.folder, "surprise").columns["surprise_mean"][0] >= 0
        assert any(note.startswith("trained on ") for note in cell.result["notes"])
