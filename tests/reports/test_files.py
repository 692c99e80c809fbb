"""The files and commands of a report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from bench.cli.report import COMMANDS
from bench.core.errors import UserError
from reports.content import drawing
from reports.figures.files import _figures, _write
from reports.write import draw, report


@pytest.fixture(scope="module")
def app() -> Typer:
    made = Typer()
    for name, function in COMMANDS.items():
        made.command(name)(function)
    return made


def test_report_writes_every_format(full_run: Path, tmp_path: Path) -> None:
    outcome = report(full_run, out=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["index.html", "report.md", "report.tex", "results.csv", "results.parquet", "summary.csv", "tables"]
    assert (outcome["cells"], outcome["done"]) == (62, 60)


def test_an_unknown_format_is_refused(full_run: Path) -> None:
    with pytest.raises(UserError, match="no report format is called docx"):
        report(full_run, ("docx",))


def test_json_is_one_document(app: Typer, full_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(full_run), "--csv", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"]["csv"][0].endswith("results.csv")


def test_paper_tables_on_the_terminal(app: Typer, full_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(full_run), "--csv", "--out", str(tmp_path), "--paper"])
    assert "Table 4: Ablation" in result.stdout
    assert "Computational efficiency" in result.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_has_an_example(name: str) -> None:
    assert f"`bench {name} runs/demo" in " ".join((COMMANDS[name].__doc__ or "").split())


def test_compare_prints_tables_and_the_page(app: Typer, full_run: Path, tmp_path: Path) -> None:
    asked = ["compare", str(full_run), "deepmedix", "resnet18", "--out", str(tmp_path)]
    assert "McNemar (seed 0, grouped)" in CliRunner().invoke(app, asked).stdout
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert found["first"] == "deepmedix"
    assert Path(found["page"]).is_file()


def test_draw_prints_and_writes(full_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    assert draw(full_run, Console(width=120)).name == "index.html"
    assert "figshare-brain · grouped · centralized" in capsys.readouterr().out


def test_figures_are_valid_and_the_same_each_time(full_run: Path, tmp_path: Path) -> None:
    drawn = drawing(full_run)
    found = _figures(drawn)
    kinds = {name.split()[0] for name, _ in found}
    assert kinds == {"pareto", "learning", "confusion", "roc", "pr", "reliability", "ablation"}
    by_kind = {name.split()[0]: draw for name, draw in found}
    for kind in ("pareto", "confusion", "ablation"):
        draw_one = by_kind[kind]
        once = [path.read_bytes() for path in _write(tmp_path / f"{kind}-a", draw_one)]
        again = [path.read_bytes() for path in _write(tmp_path / f"{kind}-b", draw_one)]
        assert once == again, kind
        ElementTree.fromstring(once[0])
        assert once[1].startswith(b"%PDF")
