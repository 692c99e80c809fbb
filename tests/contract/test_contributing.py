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
EXAMPLES = re.findall(r"```python\n# example: ([\w-]+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
SMALL = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]


def test_every_example_is_there_and_short() -> None:
    names = ["model", "dataset", "regime", "algorithm", "gradual", "neighbours", "column", "analysis"]
    assert [name for name, _ in EXAMPLES] == names
    assert all(len(code.splitlines()) < 60 for _, code in EXAMPLES)


def test_every_place_that_the_map_names_is_there() -> None:
    rows = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("|")]
    places = [place for row in rows for place in re.findall(r"`((?:bench|models|federated|reports)/[^`]*)`", row)]
    assert len(places) >= 20
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_the_map_answers_ten_questions() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    questions, _ = text.split("## Where does it go?")[1].split("\n\nA head goes")
    assert len([line for line in questions.splitlines() if line.startswith("| ")]) - 1 == 10


@pytest.mark.slow
def test_the_examples_run_together(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text("\n\n".join(code for _, code in EXAMPLES))
    overrides = [word for field in SMALL for word in ("--set", field)]
    grid = ["--models", "small,linear@strided,neighbours", "--datasets", "stripes", "--seeds", "1"]
    grid += ["--regimes", "centralized,hal*", "--with", "surprise"]
    command = ["run", "--plugin", str(plugin), *grid, "--protocol", "demo", *overrides, "--out", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *command, "--json"], capture_output=True, text=True, env=os.environ, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["done"] == 5
    for cell in Run.open(tmp_path / "run").cells():
        assert cell.result is not None
        assert cell.result["metrics"]["top2_accuracy"] == 1.0
        # Of two classes it never varies: the bound of a share of the four patients in the test set (Clopper, Pearson).
        assert cell.result["intervals"]["top2_accuracy"] == pytest.approx([0.025 ** (1 / 4), 1.0])
        assert read_answer(cell.folder, "surprise").columns["surprise_mean"][0] >= 0
        halved = any(note.startswith("trained on ") for note in cell.result["notes"])
        assert halved == (cell.spec["regime"] == "half")
    assert "left out: neighbours is fitted by the recipe neighbours" in " ".join(ended.stderr.split())
