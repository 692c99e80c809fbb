"""`bench predict`: the stored answers again, from files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.analyses.support.calibrators import fit_temperature
from bench.analyses.support.conformal_sets import lac_scores, prediction_sets, thresholds
from bench.analyses.support.likeness import Likeness, features_of
from bench.cli.app import app
from bench.core.errors import UserError
from bench.harness.finished import FinishedCell
from bench.store.run import Run

SMALL = ["image_size=32", "epochs=1", "timing_batch_size=2", "bootstrap_resamples=100"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty gray and coloured pictures of several sizes, of two classes."""
    random = np.random.default_rng(4)
    for number in range(30):
        shape = [(40, 50), (64, 33, 3), (32, 32, 3)][number % 3]
        dark = random.integers(0, 90 + 160 * (number % 2), shape, dtype=np.uint8)
        path = tmp_path / "pictures" / f"class-{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dark).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    overrides = [word for field in SMALL for word in ("--set", field)]
    done = CliRunner().invoke(app, ["data", "add", "pictures", str(folder)])
    assert done.exit_code == 0, done.output
    asked = ["--models", "deepmedix@tiny", "--datasets", "pictures", "--regimes", "centralized", "--seeds", "1"]
    out = ["--protocol", "demo", "--split", "image", "--out", str(tmp_path / "run"), "--progress", "none"]
    done = CliRunner().invoke(app, ["run", *asked, *overrides, *out])
    assert done.exit_code == 0, done.output
    return Run.open(tmp_path / "run")


def test_files_get_the_answers_that_were_stored(run: Run, folder: Path, tmp_path: Path) -> None:
    (cell,) = run.cells()
    stored = {row.pop("image_id"): row for row in cell.predictions().to_pylist()}
    asked = ["predict", str(run.path / cell.key[:8]), str(folder), "--csv", str(tmp_path / "answers.csv"), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert len(rows) == 30
    answers = {Path(row["image"]).relative_to(folder).as_posix(): row for row in rows}
    assert stored
    for name, row in stored.items():
        assert {column: answers[name][column] for column in row if column.startswith("p_")} == {
            column: value for column, value in row.items() if column.startswith("p_")
        }
    with (tmp_path / "answers.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["image"] for row in written] == [row["image"] for row in rows]
    assert [float(row["p_class-1"]) for row in written] == [row["p_class-1"] for row in rows]
    assert {tuple(row["set"]) for row in rows} <= {(), ("class-0",), ("class-1",), ("class-0", "class-1")}
    assert all(row["distance"] >= 0 for row in rows)
    # The cell's folder names it too, and an image alone is answered as among others.
    alone = cell.folder.rename(tmp_path / "alone")
    one = CliRunner().invoke(app, ["predict", str(alone), rows[7]["image"], "--json"])
    assert json.loads(one.stdout) == [rows[7]]
    table = CliRunner().invoke(app, ["predict", str(alone), rows[7]["image"]])
    assert rows[7]["class"] in table.stdout


def test_calibrated_answers_sets_and_likeness_are_what_their_parts_say(run: Run, folder: Path, tmp_path: Path) -> None:
    (stored,) = run.cells()
    page = tmp_path / "page.html"
    asked = ["predict", str(stored.folder), str(folder), "--json", "--html", str(page)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    cell = FinishedCell.of(stored)
    val = cell.predictions("val")
    temperature = fit_temperature(val.labels, val.probabilities)
    given = np.array([[row["p_class-0"], row["p_class-1"]] for row in rows])
    if temperature is None:
        assert all(row["calibrated_class-0"] is None for row in rows)
    else:
        expected = temperature.apply(given)
        assert [row["calibrated_class-1"] for row in rows] == pytest.approx(expected[:, 1])
    limits = thresholds(val.labels, lac_scores(val.probabilities), 0.1, per_class=True)
    inside = prediction_sets(lac_scores(given), limits)
    assert [row["set"] for row in rows] == [[f"class-{n}" for n in range(2) if held[n]] for held in inside]
    known = Likeness.of(cell, 5)
    away = known.distances(features_of(cell.predictor, cell.images("test")))
    by_name = {Path(row["image"]).relative_to(folder).as_posix(): row for row in rows}
    found = [by_name[str(name)] for name in cell.predictions("test").ids]
    assert [row["distance"] for row in found] == pytest.approx(away, abs=1e-5)
    assert [row["unlike"] for row in found] == (away > known.limit).tolist()
    maps = sorted((tmp_path / "page-maps").glob("*.png"))
    assert len(maps) == 30
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 30
    assert "http" not in html.replace("http-equiv", "")


def test_a_file_that_cannot_be_decoded_is_a_row_and_exit_code_1(run: Run, folder: Path) -> None:
    (cell,) = run.cells()
    (folder / "class-0" / "broken.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["predict", str(cell.folder), str(folder / "class-0"), "--json"])
    assert done.exit_code == 1
    (bad,) = [row for row in json.loads(done.stdout) if row["problem"]]
    assert (bad["class"], bad["p_class-0"]) == (None, None)
    assert bad["problem"].startswith(f"cannot decode {folder / 'class-0' / 'broken.png'}")


def test_places_without_pictures_are_named(run: Run, tmp_path: Path) -> None:
    (cell,) = run.cells()
    (tmp_path / "empty").mkdir()
    for place, match in (("empty", "holds no picture"), ("nowhere", "there is no ")):
        with pytest.raises(UserError, match=match):
            CliRunner().invoke(app, ["predict", str(cell.folder), str(tmp_path / place)], catch_exceptions=False)
