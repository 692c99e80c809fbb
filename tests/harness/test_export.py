"""A cell as an ONNX file: its metadata, its answers, what 8 bits cost, and the program of docs/edge.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.harness.export import network_file
from bench.harness.export.network_file import answers, normalized, read_metadata
from bench.harness.export.report import export, of_model
from bench.harness.finished import FinishedCell
from tests.harness.conftest import MakePlan, RunPlan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cell(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> FinishedCell:
    """A head on stored maps, which the file rounds as they were stored."""
    plan = small_plan("deepmedix@tiny")
    assert run_plan(plan).done == 1
    return FinishedCell.open(tmp_path / "run", plan.cells[0].key)


def exported(cell: FinishedCell, out: Path, *more: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["export", str(cell.folder), "--onnx", "--out", str(out), "--json", *more])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def program() -> str:
    text = (ROOT / "docs" / "edge.md").read_text()
    found = re.search(r"```python\n# example: classify\n(.*?)```", text, re.S)
    assert found is not None
    return found.group(1)


def test_a_file_answers_as_the_cell_did_and_says_what_it_is(cell: FinishedCell, tmp_path: Path) -> None:
    row = exported(cell, tmp_path / "cell.onnx")
    assert row["differs_from_pytorch"] <= 1e-4  # type: ignore[operator]
    about = read_metadata(tmp_path / "cell.onnx")
    assert json.loads(about["classes"]) == list(cell.classes)
    assert json.loads(about["preprocessing"])["mean"] == list(cell.predictor.card.normalization.mean)
    assert about["cell"] == cell.key
    test = cell.predictions("test")
    given = normalized(cell.images(), cell.predictor)
    for count in (1, len(given)):  # any number of images at once
        found = answers(tmp_path / "cell.onnx", given[:count])
        assert np.abs(found - test.probabilities[:count]).max() <= 1e-4

    assert len(program().strip().splitlines()) <= 20
    (tmp_path / "classify.py").write_text(program())
    Image.fromarray(cell.images()[0]).save(tmp_path / "image.png")
    command = [sys.executable, "-I", str(tmp_path / "classify.py"), str(tmp_path / "cell.onnx")]
    ended = subprocess.run([*command, str(tmp_path / "image.png")], capture_output=True, text=True, check=True)
    told = json.loads(ended.stdout)
    assert list(told) == list(cell.classes)
    assert np.allclose(list(told.values()), test.probabilities[0], atol=1e-4)
    bare = re.findall(r"^(?:import|from) (\w+)", program(), re.M)
    assert set(bare) == {"json", "sys", "numpy", "onnxruntime", "PIL"}


def test_8_bits_are_calibrated_on_training_images_and_their_cost_is_measured_on_the_test_part(
    cell: FinishedCell, tmp_path: Path
) -> None:
    row = exported(cell, tmp_path / "small.onnx", "--int8")
    assert row["ranges_by"] in ("minmax", "percentile", "entropy")
    assert row["distance_by_way"][row["ranges_by"]] == min(row["distance_by_way"].values())  # type: ignore[index, attr-defined]
    about = read_metadata(tmp_path / "small.onnx")
    count = len(cell.rows("train"))
    assert about["int8"] == f"static, weights per channel (QDQ, U8S8), ranges by {row['ranges_by']} of {count} images"
    assert about["cell"] == cell.key
    test = cell.predictions("test")
    found = answers(tmp_path / "small.onnx", normalized(cell.images(), cell.predictor))
    assert 0 < np.abs(found - test.probabilities).max() < 0.2
    right = (found.argmax(1) == test.labels).mean(), (test.probabilities.argmax(1) == test.labels).mean()
    assert (row["accuracy_int8"], row["accuracy_fp32"]) == pytest.approx(right)
    assert row["int8_minus_fp32"] == pytest.approx(right[0] - right[1])
    assert row["int8_minus_fp32_low"] <= row["int8_minus_fp32"] <= row["int8_minus_fp32_high"]  # type: ignore[operator]

    done = CliRunner().invoke(app, ["profile", str(tmp_path / "small.onnx"), "--onnx", "--json"])
    assert done.exit_code == 0, done.output
    (profiled,) = json.loads(done.stdout)
    assert profiled["size_mb"] == (tmp_path / "small.onnx").stat().st_size / 1e6
    assert 0 < profiled["1_thread_network_ms_p50"] <= profiled["1_thread_network_ms_p99"]
    assert profiled["1_thread_with_preprocessing_ms_p50"] > profiled["1_thread_network_ms_p50"]
    assert 0 <= profiled["network_memory_mb"] < profiled["peak_memory_mb"]
    energy = next(claim for claim in profiled["claims"] if claim["needs"].startswith("energy"))
    assert energy["measured"].startswith("not measured")


def test_what_cannot_be_exported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = CliRunner().invoke(app, ["export", "linear@tiny", "--out", str(tmp_path / "x.onnx")])
    assert "name the format" in str(none.exception)
    with pytest.raises(UserError, match="nothing\\.onnx; `bench export CELL --onnx"):
        CliRunner().invoke(
            app, ["profile", str(tmp_path / "nothing.onnx"), "--onnx"], standalone_mode=False, catch_exceptions=False
        )
    material = of_model("linear@tiny", 2, Protocol(image_size=32))
    monkeypatch.setattr(network_file, "AGREEMENT", -1.0)
    with pytest.raises(UserError, match="differ from PyTorch's"):
        export(material, tmp_path / "x.onnx", int8=False)
    assert not (tmp_path / "x.onnx").exists()
    monkeypatch.setattr(network_file, "ONNX_PACKAGES", ("no-such-package",))
    with pytest.raises(UserError, match=r'needs no-such-package: pip install "deepmedix-bench\[onnx\]"'):
        export(material, tmp_path / "x.onnx", int8=False)
