"""The LaTeX of a report, compiled by a real TeX: no error, no unknown character, nothing wider than the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.tables.latex import tex, write_latex
from reports.tables.markup import Entry, grid
from reports.write import report

WIDEST_POINTS = 5.0
needs_tex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive)")


def compiled(folder: Path) -> str:
    """Compile report.tex twice (labels); its log in one line a message."""
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300)
        log = (folder / "report.log").read_text(encoding="latin-1")
        assert done.returncode == 0, log[-3000:]
    return log


def overfull(log: str) -> list[float]:
    return [float(width) for width in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt too", log)]


@needs_tex
def test_a_runs_report_compiles_and_stays_on_the_page(full_run: Path, tmp_path: Path) -> None:
    report(full_run, ("latex",), tmp_path)
    log = compiled(tmp_path)
    assert max(overfull(log), default=0.0) <= WIDEST_POINTS
    assert "undefined" not in log
    assert "Missing character" not in log
    assert "Float too large" not in log


@needs_tex
@pytest.mark.slow
def test_twenty_six_models_on_five_datasets_compile(
    new_run: Callable[..., object], fill_grid: Callable[..., object], tmp_path: Path
) -> None:
    run = new_run()
    datasets = ["figshare-brain", "br35h", "phantom-skin", "brain-kaggle", "isic2019"]
    fill_grid(run, [f"model_number_{number}" for number in range(26)], datasets, 1)
    report(run.path, ("latex",), tmp_path)
    log = compiled(tmp_path)
    assert max(overfull(log), default=0.0) <= WIDEST_POINTS
    assert "Float too large" not in log


def test_intervals_readings_and_the_papers_numbering_are_there(full_run: Path, tmp_path: Path) -> None:
    files = report(full_run, ("latex",), tmp_path)["files"]["latex"]
    assert Path(files[0]).name == "report.tex"
    text = "".join(Path(file).read_text() for file in files[1:])
    assert "(Table 1 of the paper)" in text
    assert r"\caption{Table" not in text
    assert r"\scriptsize" in text
    assert all(rf"\input{{tables/{Path(file).stem}}}" in Path(files[0]).read_text() for file in files[1:])


def test_a_long_table_goes_on_and_its_notes_stand_once(tmp_path: Path) -> None:
    rows = [[Entry(f"m{number}"), Entry("1", under="of the paper")] for number in range(30)]
    path = write_latex([grid("long", "Long", ["Model", "A"], rows, notes=["the note"])], tmp_path)[1]
    text = path.read_text()
    assert text.count(r"\begin{table}") == 3
    assert "Long (3 of 3)" in text
    assert text.count("the note") == text.count(r"\label") == 1


def test_no_character_is_beyond_the_fonts() -> None:
    assert tex("Δ ≥ 5 µm, naïve – “x” ✗ 漢 ﬁ") == (r"$\Delta$ $\geq$ 5 $\mu$m, naïve -- ``x'' no [U+6F22] fi")
