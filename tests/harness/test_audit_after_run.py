"""An audit that is made after a run stands in everything that is drawn of the run from then on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data.registry import add
from bench.store.run import Run


def pictures(folder: Path) -> Path:
    """Thirty pictures in two classes, each once more, mirrored."""
    for row in range(30):
        knots = np.random.default_rng(row).integers(0, 256, (24, 24)).astype(np.uint8)
        picture = Image.fromarray(knots).resize((96, 96), Image.Resampling.BICUBIC)
        path = folder / "ab"[row % 2] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_stem(f"{row:02d}-mirrored"))
    return folder


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tables_ask_the_store_and_not_the_cell(tmp_path: Path) -> None:
    add("clinic", pictures(tmp_path / "clinic"))
    out = tmp_path / "run"
    grid = ["run", "--models", "linear@tiny", "--datasets", "clinic", "--regimes", "centralized", "--seeds", "1"]
    small = ["image_size=32", "epochs=1", "timing_batch_size=2", "bootstrap_resamples=100"]
    sets = [part for value in small for part in ("--set", value)]
    call(*grid, "--protocol", "demo", *sets, "--out", str(out), "--progress", "none")
    call("data", "audit", "clinic")
    (cell,) = Run.open(out).cells()
    assert cell.result is not None
    assert cell.result["data"]["audit"] == "not audited"
    files = json.loads(call("report", str(out), "--json"))["files"]
    (row,) = pd.read_csv(files["csv"][0]).to_dict("records")
    assert row["audit_when_run"] == "not audited"
    words = row["audit"]
    assert words.startswith("leaks: ")
    for kind in ("html", "md", "latex"):
        # LaTeX breaks the lines of a column's head.
        written = "".join(Path(file).read_text() for file in files[kind]).replace("\\\\", " ")
        assert f"{words} groups in two parts" in written
    assert f"clinic: {words}" in Path(files["md"][0]).read_text()
    base = tmp_path / "base.json"
    call("check", str(out), "--baseline", str(base), "--update")
    assert f"clinic: {words}." in call("check", str(out), "--baseline", str(base))
