"""The paper's tables as one plan, and the page that sets them beside the paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.data.registry import add
from bench.harness.reproduction import reproduction_plan, reproduction_protocol, steps
from reports import content
from reports.content import drawing


def br35h(folder: Path, images: int = 20) -> Path:
    """A collection in Br35H's layout: bright and dark squares."""
    for name, level in (("yes", 200), ("no", 40)):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            Image.new("L", (32, 32), level + number).save(folder / name / f"{name}{number}.png")
    return folder


def test_the_full_model_comes_first_and_every_step_asks_for_something_new() -> None:
    found = steps("laptop")
    models = [each.models for each in found]
    assert models[0] == "deepmedix"
    assert models.index("deepmedix*") > 10
    assert len(set(found)) == len(found)
    assert {each.split for each in found if each.dataset == "br35h"} == {"image", "grouped"}


def test_scales_are_the_papers_protocol_but_for_what_they_state() -> None:
    laptop, gpu = (reproduction_protocol(scale, "none", []) for scale in ("laptop", "gpu"))
    changed = {name for name, value in laptop if value != getattr(gpu, name)}
    assert changed == {"image_size", "epochs", "timing_batch_size"}
    assert (gpu.image_size, gpu.epochs, gpu.batch_size, gpu.learning_rate) == (224, 50, 32, 1e-3)
    with pytest.raises(UserError, match="no scale is called 'phone'; there are laptop, gpu"):
        steps("phone")


def test_without_any_dataset_of_the_paper_it_says_what_brings_one() -> None:
    with pytest.raises(UserError, match=r"none of the paper's datasets is available; .*bench data"):
        reproduction_plan("laptop", "none")


def test_absent_datasets_are_named_and_the_others_planned(tmp_path: Path) -> None:
    add("br35h", br35h(tmp_path / "br35h"))
    plan = reproduction_plan("laptop", "none", ["batch_size=8"])
    assert {cell.spec.dataset for cell in plan.cells} == {"br35h"}
    assert [cell.spec.split for cell in plan.cells[:2]] == ["image", "grouped"]
    assert [cell.spec.seed for cell in plan.cells] == [0, 0, 1, 2, 1, 2]
    assert "figshare-brain" in plan.absent


def test_it_runs_and_sets_metrics_beside_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("br35h", br35h(tmp_path / "br35h"))
    small = ["image_size=32", "epochs=1", "tuning=head", "batch_size=8", "timing_batch_size=2"]
    out = tmp_path / "run"
    asked = ["reproduce", "--weights", "none", "--out", str(out), "--progress", "none"]
    compared: list[Path] = []
    monkeypatch.setattr(content, "drawing", lambda run: compared.append(run) or drawing(run))
    ended = CliRunner().invoke(app, [*asked, *(word for field in small for word in ("--set", field))])
    assert ended.exit_code == 0, ended.output
    page, text = ((out / "report" / name).read_text() for name in ("reproduction.html", "reproduction.md"))
    assert compared == [out]
    assert "6 of 6 cells are done" in text
    for shown in (page, text):
        assert "99.34" in shown
        assert "What a split by image is worth" in shown
        assert "split grouped" in shown
