"""The tidy tables: one row a cell, and one row a model and condition."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.atomic import write_text
from bench.store.cells import StoredCell
from bench.store.cells import row as flat_row
from bench.store.files import write_table
from reports.load.source import Source
from reports.tables.grid import Row, audit_of

if TYPE_CHECKING:
    import pandas as pd


def results_frame(source: Source) -> pd.DataFrame:
    """One row a planned cell, in whatever status: what it is, its metrics, intervals, cost and timing.

    Tables inside a cell (uncounted operators, federated settings) are JSON text.
    """
    import pandas as pd

    return pd.DataFrame([_flat(cell) for cell in source.cells])


def _flat(cell: StoredCell) -> dict[str, Any]:
    """The stored row; `audit` is of now, `audit_when_run` of the time when the cell was run."""
    found = {name: _plain(value) for name, value in flat_row(cell).items()}
    return found if cell.result is None else {**found, "audit": audit_of(cell).text}


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def summary_rows(table: Sequence[Row]) -> list[dict[str, Any]]:
    """One row a model and condition: mean, interval and spread of every metric, the paper's beside, as plain values."""
    return [_summary(row) for row in table]


def _summary(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": row.model, "dataset": row.condition.dataset, "split": row.condition.split,
        "regime": row.condition.regime, "variant": row.condition.variant, "cells": len(row.cells),
        "cells_done": len(row.done), "problem": row.problem, "badges": "; ".join(row.badges),
        "interval_method": row.interval_method,
    }  # fmt: skip
    for name in row.names:
        measured = row.metric(name)
        if measured is not None:
            found |= {name: measured.mean, f"{name}_low": _known(measured.low), f"{name}_high": _known(measured.high)}
            found |= {f"{name}_sd": _known(measured.deviation), f"{name}_over": measured.over}
    return found | {f"published_{name}": value / 100 for name, value in row.published.items()}


def _of_one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of several types, as a plugin or a stranger may leave them, as text: Parquet has one type a column."""
    texts = {}
    for name in frame.columns:
        known = frame[name].dropna()
        if frame[name].dtype == object and len({_kind(value) for value in known}) > 1:
            texts[name] = known.map(str).reindex(frame.index)
    return frame.assign(**texts)


def _kind(value: object) -> type:
    return float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_tidy(source: Source, table: Sequence[Row], folder: Path) -> list[Path]:
    """Write results.csv and results.parquet (a row a cell) and summary.csv (a row a model and condition).

    Args:
        source: the run.
        table: its rows.
        folder: where the files go.
    """
    import pandas as pd
    import pyarrow as pa

    frame = results_frame(source)
    paths = [folder / "results.csv", folder / "results.parquet", folder / "summary.csv"]
    write_text(paths[0], frame.to_csv(index=False))
    write_table(paths[1], pa.Table.from_pandas(_of_one_type(frame), preserve_index=False))
    write_text(paths[2], pd.DataFrame(summary_rows(table)).to_csv(index=False))
    return paths
