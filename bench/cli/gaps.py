"""`bench fed gaps`: a run's federated cells against their centralized twins. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.output import print_json


def gaps_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder with the regime `twin` in it.")],
    metric: Annotated[
        str, typer.Option(help="A quality column: accuracy, balanced_accuracy, roc_auc, ...")
    ] = "accuracy",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")
    ] = False,
) -> None:
    """Each federated row against its centralized twin: the gap with its paired interval, rounds and bytes to get near.

    A twin is of the same model, dataset, split and protocol; a row without one says what was run instead.

    Example: `bench fed gaps runs/demo`
    """
    from reports.compare.federated import gap_rows

    rows = gap_rows(folder, metric)
    if as_json:
        print_json(rows)
        return
    _print(rows, metric)


def _print(rows: list[dict[str, Any]], metric: str) -> None:
    from rich.console import Console
    from rich.table import Table

    # The columns that fit a terminal; --json has them all.
    head = ("model", "dataset", "regime", metric, "twin", "gap [95 %]", "p (Holm)", "rounds to 95 %", "MB to 95 %")
    table = Table(title="against the centralized twin", title_justify="left", box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="left" if name in ("model", "dataset", "regime") else "right", overflow="fold")
    for row in rows:
        table.add_row(*_line(row, metric))
    console = Console()
    console.print(table)
    for row in rows:
        if row["problem"]:
            console.print(f"{_place(row)}: {row['problem']}", markup=False, highlight=False, soft_wrap=True)


def _place(row: dict[str, Any]) -> str:
    return " · ".join(row[name] for name in ("model", "dataset", "split", "regime", "variant") if row[name])


def _line(row: dict[str, Any], metric: str) -> list[str]:
    from bench.measure.columns import column
    from reports.compare.ranking import probability

    about = column(metric)
    regime = " ".join(row[name] for name in ("regime", "variant") if row[name])
    shown = [about.text(row[name]) for name in (metric, "twin")]
    low, high = (_signed(row[name], about) for name in ("low", "high"))
    gap = f"{_signed(row['gap'], about)} [{low}, {high}]" if row["gap"] is not None else "–"
    p = "–" if row["p_holm"] is None else probability(row["p_holm"])
    reached = ["–" if row[name] is None else f"{row[name]:.1f}" for name in ("rounds_95", "mb_95")]
    return [row["model"], row["dataset"], regime, *shown, gap, p, *reached]


def _signed(value: float | None, about: Any) -> str:
    return "–" if value is None else f"{about.scale * value:+.{about.digits}f}"
