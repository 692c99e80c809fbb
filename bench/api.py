"""The harness from Python, a notebook say: what `import bench` offers.

import bench

run = bench.run("deepmedix*", "phantom-brain", protocol="demo", seeds=2, out="runs/mine")
run.results()                                   # a row a cell
run.compare("deepmedix", "deepmedix-noskip")   # paired, with intervals
run.cell("deepmedix · * seed 0").predictor      # images in, probabilities out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.config import Protocol, load_protocol, make_runtime, protocol_of
from bench.core.errors import UserError
from bench.measure.columns import names_of
from bench.store.run import Run as StoredRun

if TYPE_CHECKING:
    import pandas as pd

    from bench.harness.finished import FinishedCell
    from bench.store.predictions import PartName
    from reports.compare.versus import Comparison as Compared
    from reports.tables.markup import Grid

Names = str | Sequence[str]
_SHOWN = ("model", "dataset", "split", "regime", "seed", "status", *names_of("quality", level=1))


@dataclass(frozen=True, repr=False)
class Tables:
    """Tables that a notebook shows as HTML and `str` as Markdown."""

    tables: tuple[Grid, ...]

    def __str__(self) -> str:
        from reports.tables.markup import markdown

        return "\n".join(markdown(table) for table in self.tables)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "".join(_html(table) for table in self.tables)


@dataclass(frozen=True, repr=False)
class Comparison(Tables):
    """Two models on the same test images.

    Attributes:
        found: everything that was tested, unrounded.
    """

    found: Compared


@dataclass(frozen=True)
class Run:
    """A run's folder, finished or not.

    Attributes:
        path: where it lies.
    """

    path: Path

    def results(self) -> pd.DataFrame:
        """One row a planned cell: what it is, status and problem, every metric with its interval, cost and times.

        Fractions are 0 to 1; an interval's bounds are COLUMN_low and COLUMN_high.
        """
        return StoredRun.open(self.path).frame()

    def predictions(self, cells: str = "*", part: PartName = "test") -> pd.DataFrame:
        """The predictions of finished cells, a row an image: the cell's key and name, image_id, group, label, p_CLASS.

        Args:
            cells: a key's beginning, or a pattern on names ("deepmedix · *").
            part: "train", "val" or "test"; the first two are computed once and kept.

        Raises:
            UserError: no finished cell matches, another part, or a file that cannot be read.
        """
        import pandas as pd

        from bench.analyses.run import chosen_cells

        found = chosen_cells(StoredRun.open(self.path), cells)
        if part not in ("train", "val", "test"):
            raise UserError(f"a cell has no part {part!r}; there are train, val and test")
        frames: list[pd.DataFrame] = [self.cell(cell.key).frame(part) for cell in found]
        return pd.concat(frames, ignore_index=True)

    def cell(self, name: str, device: str = "cpu") -> FinishedCell:
        """A finished cell, rebuilt from its folder: `.predictor`, `.images()`, `.predictions()`, `.history()`.

        Args:
            name: a key's beginning, or a pattern on names that one cell has.
            device: where its predictor computes.

        Raises:
            UserError: none or several such cells, or one that is not done.
        """
        from bench.harness.finished import FinishedCell

        return FinishedCell.open(self.path, name, device)

    def compare(self, first: str, second: str) -> Comparison:
        """Compare two models on the same test images: paired tests, intervals, the images that they part on.

        Args:
            first, second: names of models of this run.

        Raises:
            UserError: an unknown model, or no condition that both have.
        """
        from reports.compare.versus import compare, table

        found = compare(self.path, first, second)
        tables = (table(entry, first, second) for entry in found.entries if not entry.problem)
        return Comparison(tuple(tables), found)

    def tables(self) -> Tables:
        """The tables of the report: quality by condition, cost, what is missing."""
        from reports.content import drawing
        from reports.tables.overview import tables

        drawn = drawing(self.path)
        return Tables(tuple(tables(drawn.source, drawn.rankings, drawn.rows, drawn.references)))

    def report(self, formats: Sequence[str] = ("html", "md", "latex", "csv"), out: Path | None = None) -> Path:
        """Write the report; the folder that holds it.

        Args:
            formats: any of html, md, latex, csv.
            out: where the files go; RUN/report when not given.

        Raises:
            UserError: an unknown format, or the disk is full.
        """
        from reports.write import report

        report(self.path, tuple(formats), out)
        return out or self.path / "report"

    def _repr_html_(self) -> str:
        table = self.results()
        shown = table[[name for name in _SHOWN if name in table]]
        done = int((table["status"] == "done").sum()) if len(table) else 0
        frame: str = shown.to_html(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–", border=0)
        return f"<p><b>{escape(str(self.path))}</b>: {done} of {len(table)} cells done</p>{frame}"


def run(
    models: Names = "all",
    datasets: Names = "all",
    *,
    protocol: str | Path | Mapping[str, Any] | Protocol = "paper",
    regimes: Names = "centralized",
    seeds: int | Sequence[int] = 3,
    split: str = "grouped",
    out: str | Path | None = None,
    progress: str = "none",
    **runtime: Any,
) -> Run:
    """Run the grid, or go on with it; cells that fail are rows of the results with their reason.

    Args:
        models, datasets, regimes: "all", a pattern, or several.
        protocol: "paper", "demo", a TOML file, a Protocol, or its fields over those of "base".
        seeds: how many, or which.
        split: grouped, image, official, official:N, site or site:NAME.
        out: the run's folder; runs/PROTOCOL when not given.
        progress: none, plain, rich or auto.
        runtime: device, threads, jobs, timing and whatever else `bench.core.config.Runtime` holds.

    Raises:
        UserError: what `bench run` refuses.
    """
    from rich.console import Console

    from bench.executors.show import execute_shown, refuse_contradictions, unfinished
    from bench.harness.plan import Request, make_plan

    recipe = protocol_of(protocol)
    counted = str(seeds) if isinstance(seeds, int) else ",".join(map(str, seeds)) + ","
    request = Request(_joined(models), _joined(datasets), recipe, _joined(regimes), counted, split)
    plan, how = make_plan(request), make_runtime(progress=progress, **runtime)
    named = Path(protocol).stem if isinstance(protocol, (str, Path)) else "custom"
    folder = Path(out) if out is not None else Path("runs") / named
    refuse_contradictions(plan, how, StoredRun(folder))
    stored = StoredRun.create(folder)
    quiet = Console(quiet=progress == "none")
    execute_shown(quiet, plan, stored, how, len(unfinished(plan, stored)), command="bench.run(...)")
    return Run(folder)


def open(path: str | Path) -> Run:
    """An existing run. Raises UserError when there is none of this version."""
    return Run(StoredRun.open(Path(path)).path)


def _joined(names: Names) -> str:
    return names if isinstance(names, str) else ",".join(names)


def _html(table: Grid) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_bold(entry.text, entry.bold)}</td>" for entry in row) + "</tr>" for row in table.body
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    caption = f"<caption>{escape(table.caption)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul>"


def _bold(text: str, bold: bool) -> str:
    return f"<b>{escape(text)}</b>" if bold else escape(text)


__all__ = ["Comparison", "Protocol", "Run", "Tables", "UserError", "load_protocol", "open", "run"]
