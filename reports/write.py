"""Writing a run's report and the page of a comparison. Heavy imports stay inside the functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError
from bench.store.layout import PLAN

if TYPE_CHECKING:
    from reports.content import Drawing
    from reports.tables.markup import Grid

FORMATS = ("html", "md", "latex", "csv")
# Each is looked at: a killed process may have written the first of them only, and `bench analyze` draws the page alone.
WRITTEN = ("index.html", "report.md", "report.tex", "results.csv", "results.parquet", "summary.csv")
_ALSO = {"reproduction": "reproduction.html"}


def report(
    run: Path, formats: tuple[str, ...] = FORMATS, out: Path | None = None, figures: bool = False
) -> dict[str, Any]:
    """Draw a run's report.

    Args:
        run: the run's folder.
        formats: any of html, md, latex, csv, reproduction.
        out: where the files go; RUN/report when not given.
        figures: also every figure as SVG and PDF, under figures/.

    Returns:
        {"run", "cells", "done", "files": {format: [paths]}, "problems", "best": [...]}.

    Raises:
        UserError: the folder is no run, an unknown format, or the disk is full.
    """
    unknown = [name for name in formats if name not in _WRITERS]
    if unknown:
        raise UserError(f"no report format is called {', '.join(unknown)}; there are {', '.join(_WRITERS)}")
    from reports.content import drawing

    drawn, folder = drawing(run), out or run / "report"
    files = {name: [str(path) for path in _WRITERS[name](drawn, folder)] for name in formats}
    if figures:
        from reports.figures.files import write_figures

        files["figures"] = [str(path) for path in write_figures(drawn, folder / "figures")]
    return _outcome(drawn, files)


def _outcome(drawn: Drawing, files: dict[str, list[str]]) -> dict[str, Any]:
    from reports.html.page import unit_notes

    source = drawn.source
    best = [
        {"condition": ranking.condition.name, "model": ranking.best.model if ranking.best else None,
         "verdict": ranking.verdict, "chosen_on_validation": ranking.chosen or None,
         "interval_method": ranking.best.interval_method if ranking.best else None}
        for ranking in drawn.rankings
    ]  # fmt: skip
    return {
        "run": str(source.path), "cells": len(source.cells), "done": len(source.done), "files": files,
        "problems": source.problems, "best": best, "notes": unit_notes(source),
    }  # fmt: skip


def _write_html(drawn: Drawing, folder: Path) -> list[Path]:
    from bench.core.atomic import write_text
    from reports.html.page import page

    write_text(folder / "index.html", page(drawn))
    return [folder / "index.html"]


def _write_csv(drawn: Drawing, folder: Path) -> list[Path]:
    from reports.tables.tidy import write_tidy

    return write_tidy(drawn.source, drawn.rows, folder)


def _write_markdown(drawn: Drawing, folder: Path) -> list[Path]:
    from bench.core.atomic import write_text
    from reports.tables.markup import markdown

    blocks = [f"# {drawn.source.name}\n", *_sentences(drawn), *(markdown(table) for table in _tables(drawn))]
    write_text(folder / "report.md", "\n".join(blocks))
    return [folder / "report.md"]


def _write_latex(drawn: Drawing, folder: Path) -> list[Path]:
    from reports.tables.latex import write_latex

    return write_latex(_tables(drawn), folder)


def _write_reproduction(drawn: Drawing, folder: Path) -> list[Path]:
    from reports.reproduction import write_reproduction

    return write_reproduction(drawn, folder)


_WRITERS: dict[str, Callable[[Drawing, Path], list[Path]]] = {
    "html": _write_html,
    "md": _write_markdown,
    "latex": _write_latex,
    "csv": _write_csv,
    "reproduction": _write_reproduction,
}


def _sentences(drawn: Drawing) -> list[str]:
    from reports.html.page import lead, unit_notes

    lines = [f"{lead(drawn.source)}. {len(drawn.source.done)} have a result.\n"]
    for ranking in drawn.rankings:
        model = ranking.best.model if ranking.best else "none"
        lines.append(f"- {ranking.condition.name}: best {model}, {ranking.verdict}")
    lines += [f"- {note}" for note in unit_notes(drawn.source)]
    lines += [f"- not usable: {problem}" for problem in drawn.source.problems]
    return [*lines, ""]


def _tables(drawn: Drawing) -> list[Grid]:
    from reports.compare.ablation import tables as ablation_tables
    from reports.compare.federated import gap_table
    from reports.tables.overview import tables

    federated = gap_table(drawn.gaps)
    found = [*tables(drawn.source, drawn.rankings, drawn.rows, drawn.references)]
    found += [table for study in drawn.ablations for table in ablation_tables(study)]
    return [*found, *([federated] if federated else []), *drawn.paper]


def draw(run: Path, console: Any, also: tuple[str, ...] = ()) -> Path:
    """Write the whole report of a run, unless nothing changed since, and print its summary tables; the page's path.

    Args:
        run: the run's folder.
        console: where the tables are printed.
        also: formats beside the usual ones.
    """
    page = run / "report" / "index.html"
    names = (*WRITTEN, *(_ALSO[name] for name in also))
    if not all(is_current(page.with_name(name), run) for name in names):
        report(run, (*FORMATS, *also))
    show_summary(run, console)
    return page


def is_current(page: Path, run: Path) -> bool:
    """Whether a file of the report is younger than the plan, all in the cells' folders, and the code that draws."""
    if not page.is_file():
        return False
    drawn = page.stat().st_mtime_ns
    code = Path(__file__).parent.rglob("*.py")
    cells = (run / "cells").glob("*/")
    # A folder is as young as the last file that was put into it or replaced there.
    sources = [run / PLAN, *code, *(folder for cell in cells for folder in (cell, cell / "analyses"))]
    return all(source.stat().st_mtime_ns < drawn for source in sources if source.exists())


def show_summary(run: Path, console: Any) -> None:
    """Print accuracy and AUC of every row, best first under each condition."""
    from rich.table import Table

    from reports.compare.ranking import with_interval
    from reports.load.source import load
    from reports.tables.grid import conditions, rows
    from reports.tables.reference import MAJORITY, reference_rows

    source = load(run)
    table_rows = rows(source.cells)
    for condition, members in conditions([*table_rows, *reference_rows(source, table_rows)]).items():
        badges = dict.fromkeys(badge for row in members for badge in row.badges)
        table = Table(title=condition.name, caption=", ".join(badges) or None, title_justify="left", box=None)
        for name in ("model", "cells", "accuracy", "ROC-AUC", "paper"):
            table.add_column(name, justify="left" if name == "model" else "right")
        for row in sorted(members, key=lambda row: -_mean(row, "accuracy")):
            paper = row.published.get("accuracy")
            printed = "" if paper is None else f"{paper:.2f}"
            known = [with_interval(row, name) for name in ("accuracy", "roc_auc")]
            shown = known if row.done else [row.problem, ""]
            table.add_row(row.model, row.count, *shown, printed, style="dim" if row.model == MAJORITY else None)
        console.print(table)


def _mean(row: Any, name: str) -> float:
    found = row.metric(name)
    return found.mean if found else -1.0


def paper_texts(run: Path) -> list[str]:
    """The paper's tables 1 to 4 beside ours, as Markdown."""
    from reports.load.source import load
    from reports.tables.grid import rows
    from reports.tables.markup import markdown
    from reports.tables.paper import paper_tables

    return [markdown(table) for table in paper_tables(rows(load(run).cells))]


def compare(run: Path, first: str, second: str, out: Path | None = None) -> dict[str, Any]:
    """Compare two models on the same images and write the page that shows where they part.

    Args:
        run: the run's folder.
        first, second: names of the models; differences are the first's minus the second's.
        out: the page's folder; None: the run's own report folder.

    Returns:
        Everything that was tested, and "page": the page's path.

    Raises:
        UserError: no run, an unknown model, or no condition that both have.
    """
    from bench.core.atomic import write_text
    from reports.compare.versus import as_json
    from reports.compare.versus import compare as compared
    from reports.html.compare import compare_page

    found = compared(run, first, second)
    name = re.sub(r"[^A-Za-z0-9_.@-]+", "-", f"compare-{first}-against-{second}.html")
    path = (out or run / "report") / name
    write_text(path, compare_page(found))
    return {**as_json(found), "page": str(path), "tables": _texts(found)}


def _texts(found: Any) -> list[str]:
    from reports.compare.versus import table
    from reports.tables.markup import markdown

    return [
        f"{entry.condition.name}: {entry.problem}"
        if entry.problem
        else markdown(table(entry, found.first, found.second))
        for entry in found.entries
    ]
