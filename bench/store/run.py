"""The run folder: one sub-folder a cell, every file written atomically, read back as one table.

runs/NAME/plan.json, environment.json
runs/NAME/cells/KEY/cell.json, history.parquet, predictions.parquet, predictor/,
                    result.json (written last: a cell is done when it is there), failure.json
                    (while it runs: last.ckpt, best.safetensors, ...: the fit's own state)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.core.atomic import replacing, write_json
from bench.core.cellspec import with_todays_words
from bench.core.errors import UserError
from bench.core.schema import read_table, refuse_links_out
from bench.measure.statistics.methods import interval_method
from bench.store.files import AGAIN, read_environment, read_failure, read_plan, read_result

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA = 1
PLAN, ENVIRONMENT = "plan.json", "environment.json"
CELL, RESULT, FAILURE = "cell.json", "result.json", "failure.json"
HISTORY, PREDICTIONS = "history.parquet", "predictions.parquet"
PREDICTOR = "predictor"

MADE_AGAIN = "delete its cell's result.json and run again"
Status = Literal["done", "failed", "missing", "corrupt"]
# What rounds called the figures over their clients' validation images before the names said so.
_EARLIER_HISTORY = {
    "client_mean": "val_mean_client_accuracy",
    "client_worst": "val_worst_client_accuracy",
    "client_p10": "val_p10_client_accuracy",
    "client_spread": "val_client_accuracy_spread",
}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class StoredCell:
    """A cell as its folder holds it.

    Attributes:
        spec: model, dataset, split, regime, protocol, seed, in today's words.
        problem: why the status is not "done"; "" when it is.
    """

    key: str
    folder: Path
    spec: dict[str, Any]
    status: Status
    result: dict[str, Any] | None
    problem: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", with_todays_words(self.spec))

    def predictions(self) -> pa.Table:
        """One row a test image: image_id, group, site, label, p_CLASS... Raises UserError when it cannot be read."""
        return read_table(self.folder / PREDICTIONS, MADE_AGAIN)

    def history(self) -> pa.Table:
        """One row an epoch or round. Raises UserError when it cannot be read."""
        table = read_table(self.folder / HISTORY, MADE_AGAIN)
        return table.rename_columns([_EARLIER_HISTORY.get(name, name) for name in table.column_names])


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Run:
        """Make the folder, or take the one that is there if this version wrote it.

        Raises:
            UserError: the folder holds something else, or a run of another layout.
        """
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out takes a folder for the run")
        # Hidden files are another process's lock and half-written plan: it began this run a moment ago.
        if not path.exists() or all(file.name.startswith(".") for file in path.iterdir()):
            path.mkdir(parents=True, exist_ok=True)
            return run
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Take an existing run.

        Raises:
            UserError: no run there, or one of another layout.
        """
        plan = path / PLAN
        if not plan.is_file():
            raise UserError(f"{path} is no run: it has no {PLAN}; name a folder that `bench run --out` made")
        refuse_links_out(path, "remove it: what is written through it would land elsewhere")
        schema = read_plan(plan)["schema"]
        if schema != SCHEMA:
            raise UserError(
                f"{path} was made by another version (layout {schema}, this one writes {SCHEMA}); choose another --out"
            )
        return cls(path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def folder(self, key: str) -> Path:
        """A cell's folder."""
        return self.path / "cells" / key

    def write_plan(self, cells: list[dict[str, Any]], command: str) -> None:
        """Remember what was asked for; cells asked for earlier stay in the plan."""
        before: Any = read_plan(self.path / PLAN) if (self.path / PLAN).is_file() else {}
        known = {cell["key"]: cell for cell in before.get("cells", [])} | {cell["key"]: cell for cell in cells}
        if before.get("command") == command and before["cells"] == list(known.values()):
            return
        plan = {"schema": SCHEMA, "command": command, "written": now(), "cells": list(known.values())}
        write_json(self.path / PLAN, plan)

    def plan(self) -> list[dict[str, Any]]:
        """The planned cells, each {"key", "cell"}; empty before the first plan."""
        if not (self.path / PLAN).is_file():
            return []
        cells: list[dict[str, Any]] = read_plan(self.path / PLAN)["cells"]
        return cells

    def environment(self) -> dict[str, Any]:
        """What the machine was; empty when it was not written."""
        path = self.path / ENVIRONMENT
        return read_environment(path) if path.is_file() else {}

    def cell(self, key: str, spec: dict[str, Any]) -> StoredCell:
        """Read one cell; whatever is wrong with its files becomes its status."""
        return read_cell(key, self.folder(key), spec)

    def cells(self) -> list[StoredCell]:
        """Every planned cell, in the plan's order."""
        return [self.cell(entry["key"], entry["cell"]) for entry in self.plan()]

    def frame(self) -> pd.DataFrame:
        """One row a planned cell: what it is, status and problem, every metric, interval, cost and timing."""
        import pandas as pd

        return pd.DataFrame([row(cell) for cell in self.cells()])


def read_cell(key: str, folder: Path, spec: dict[str, Any]) -> StoredCell:
    """Read a cell's folder; whatever is wrong with its files becomes its status.

    Args:
        spec: what the plan says of it; empty: what its result says.
    """
    if (folder / RESULT).is_file():
        return _read_result(key, folder, spec)
    if (folder / FAILURE).is_file():
        return _read_failure(key, folder, spec)
    return StoredCell(key, folder, spec, "missing", None, "not run yet")


def is_done(folder: Path) -> bool:
    """Whether a cell's result is there and whole."""
    return (folder / RESULT).is_file() and _read_result("", folder, {}).status == "done"


def row(cell: StoredCell) -> dict[str, Any]:
    """A stored cell as one flat row; intervals as COLUMN_low and COLUMN_high."""
    spec = {name: value for name, value in cell.spec.items() if name != "protocol"}
    protocol = {f"protocol_{name}": value for name, value in cell.spec.get("protocol", {}).items()}
    base = {"key": cell.key, **spec, "status": cell.status, "problem": cell.problem}
    if cell.result is None:
        return {**base, **protocol}
    low_high: dict[str, float | None] = {}
    for name, (low, high) in cell.result["intervals"].items():
        low_high |= {f"{name}_low": low, f"{name}_high": high}
    low_high_method = {**low_high, "interval_method": interval_method(cell.result)}
    measured = {**cell.result["metrics"], **low_high_method, **cell.result["cost"], **cell.result["timing"]}
    about = {name: cell.result["data"].get(name) for name in ("synthetic", "n_train", "n_val", "n_test")}
    about["audit_when_run"] = cell.result["data"].get("audit")
    return {**base, **measured, **about, "seconds": cell.result["seconds"], **protocol}


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def _read_result(key: str, folder: Path, spec: dict[str, Any]) -> StoredCell:
    try:
        result = read_result(folder / RESULT)
    except UserError as error:
        return StoredCell(key, folder, spec, "corrupt", None, str(error))
    problem = ""
    if result["schema"] != SCHEMA:
        problem = f"{folder / RESULT} has layout {result['schema']}, not {SCHEMA}; {AGAIN}"
    elif key and result["key"] != key:
        problem = f"{folder / RESULT} belongs to cell {result['key']}; {AGAIN}"
    if problem:
        return StoredCell(key, folder, spec, "corrupt", None, problem)
    result["metrics"] = _of_validation(result["metrics"])
    return StoredCell(key, folder, spec or result["cell"], "done", result, "")


def _of_validation(metrics: dict[str, Any]) -> dict[str, Any]:
    """Before `clients_tested` was stored, figures over clients were of validation images under a test figure's name."""
    if "clients_tested" in metrics:
        return metrics
    of = "local_model" if "median_client" in metrics else "client"
    earlier = {name.removeprefix("val_"): name.replace("client", of) for name in _EARLIER_HISTORY.values()}
    return {earlier.get(name, name): value for name, value in metrics.items()}


def _read_failure(key: str, folder: Path, spec: dict[str, Any]) -> StoredCell:
    try:
        failure = read_failure(folder / FAILURE)
    except UserError as error:
        return StoredCell(key, folder, spec, "failed", None, str(error))
    return StoredCell(key, folder, spec, "failed", None, str(failure.get("error", "no reason was written")))
