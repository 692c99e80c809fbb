"""The harness from Python, and the notebook that shows it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.core.errors import UserError

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "api.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: None) -> Any:
    protocol = {"base": "demo", "image_size": 32, "epochs": 1, "synthetic_images": 90}
    folder = tmp_path_factory.mktemp("api") / "run"
    return bench.run(
        ["linear@tiny", "deepmedix@tiny"], "phantom-brain", protocol=protocol, seeds=[0], out=folder, timing="off"
    )


def test_a_run_is_rows_and_goes_on(run: Any) -> None:
    table = run.results()
    assert table["status"].tolist() == ["done", "done"]
    assert bench.open(run.path).results()["key"].tolist() == table["key"].tolist()
    html = run._repr_html_()
    assert "2 of 2 cells done" in html
    assert "linear@tiny" in html


def test_predictions_are_those_of_the_cell(run: Any) -> None:
    table = run.predictions("linear@tiny*")
    row = run.results().set_index("model").loc["linear@tiny"]
    shares = [name for name in table if name.startswith("p_")]
    decided = table[shares].idxmax(axis=1).str.removeprefix("p_")
    assert (decided == table["label"]).mean() == pytest.approx(row["accuracy"])
    assert len(run.predictions("linear@tiny*", "val")) == row["n_val"]
    with pytest.raises(UserError, match="no part 'tset'"):
        run.predictions("linear@tiny*", "tset")


def test_a_comparison_is_shown_and_its_numbers_are_there(run: Any) -> None:
    found = run.compare("linear@tiny", "deepmedix@tiny")
    assert "<caption>" in found._repr_html_()
    assert "Accuracy" in str(found)
    difference, _ = found.found.entries[0].differences["accuracy"]
    accuracy = run.results().set_index("model")["accuracy"]
    assert difference.value == pytest.approx(accuracy["linear@tiny"] - accuracy["deepmedix@tiny"])


def test_what_will_not_do_is_refused_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field is called 'epoch'"):
        bench.run("deepmedix", "phantom-brain", protocol={"base": "demo", "epoch": 1}, out=tmp_path / "run")
    with pytest.raises(UserError, match="is no run"):
        bench.open(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        bench.runn  # noqa: B018


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = []
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            # The last expression of a cell is what a notebook shows.
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert len(shown) == 7
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").is_file()
