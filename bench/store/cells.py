"""A cell as its folder holds it: its status, its result, its row in the run's table."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.core.cellspec import name_of, with_todays_words
from bench.core.errors import UserError
from bench.core.schema import read_table
from bench.measure.statistics.methods import interval_method
from bench.store.files import AGAIN, read_failure, read_result
from bench.store.layout import FAILURE, HISTORY, PREDICTIONS, RESULT, SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa

MADE_AGAIN = "delete its cell's result.json and run again"
Status = Literal["done", "failed", "missing", "corrupt"]
# What rounds called the metrics over their clients' validation images before the names said so.
_EARLIER_HISTORY = {
    "client_mean": "val_mean_client_accuracy",
    "client_worst": "val_worst_client_accuracy",
    "client_p10": "val_p10_client_accuracy",
    "client_spread": "val_client_accuracy_spread",
}


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


def read_cell(key: str, folder: Path, spec: dict[str, Any]) -> StoredCell:
    """Read a cell's folder; whatever is wrong with its files becomes its status.

    Args:
        key: of the cell.
        folder: its own, which need not be there.
        spec: what the plan says of it; empty: what its result says.
    """
    if (folder / RESULT).is_file():
        return _read_result(key, folder, spec)
    if (folder / FAILURE).is_file():
        return _read_failure(key, folder, spec)
    return StoredCell(key, folder, spec, "missing", None, "not run yet")


def matching(cells: Sequence[StoredCell], name: str) -> list[StoredCell]:
    """The cells whose key begins with a name, or whose own name ("deepmedix · ...") it is a pattern of."""
    return [cell for cell in cells if cell.key.startswith(name) or fnmatch.fnmatchcase(name_of(cell.spec), name)]


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
    """Before `clients_tested` was stored, metrics over clients were of validation images under a test metric's name."""
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
