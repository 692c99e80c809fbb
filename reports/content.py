"""Everything that a run's report shows, computed once and handed to whoever writes it down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.measure.statistics.across import Friedman
from reports.compare.ablation import Ablation, ablations
from reports.compare.datasets import rankings_across
from reports.compare.federated import Gap, gaps
from reports.compare.ranking import Ranking, rank
from reports.load.source import Source, load
from reports.tables.grid import Row, rows
from reports.tables.markup import Grid
from reports.tables.paper import paper_tables
from reports.tables.reference import reference_rows


@dataclass(frozen=True)
class Drawing:
    """A run, read and compared.

    Attributes:
        rows: one a model and condition.
        references: one a condition: what needs no image.
        rankings: one a condition.
        paper: tables 1 to 4 and the efficiency paragraph.
    """

    source: Source
    rows: list[Row]
    references: list[Row]
    rankings: list[Ranking]
    ablations: list[Ablation]
    gaps: list[Gap]
    across: list[tuple[str, Friedman]]
    paper: list[Grid]


def drawing(path: Path) -> Drawing:
    """Read a run and compare its models.

    Raises:
        UserError: the folder is no run.
    """
    source = load(path)
    source.read_ahead()
    table = rows(source.cells)
    return Drawing(
        source,
        table,
        reference_rows(source, table),
        rank(source, table),
        ablations(source, table),
        gaps(source, table),
        rankings_across(table),
        paper_tables(table),
    )
