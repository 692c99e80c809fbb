"""The two tables of a cell, checked: its predictions on a part and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.schema import read_table
from bench.measure.quality import scores
from bench.measure.statistics.pooled import Paired
from bench.store.cells import MADE_AGAIN, StoredCell
from bench.store.files import write_table
from bench.store.layout import HISTORY, PREDICTIONS, predictions_file

if TYPE_CHECKING:
    import pyarrow as pa

# What the columns of a history begin with that curves are drawn of.
_FIGURES = ("train_", "val_", "learning_rate", "clients_", "up_mb", "down_mb", "seconds", "update_norm", "drift")
PartName = Literal["train", "val", "test"]
FileName = Literal["train", "val", "test", "own"]  # "own": of the test set, by each image's own client


@dataclass(frozen=True)
class Predictions:
    """The stored predictions of a cell by rising id: ids, groups, sites [N] text, labels [N], probabilities [N, k].

    The sites of a federated cell are its clients.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    sites: NDArray[np.str_]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]

    @property
    def decisions(self) -> NDArray[np.int64]:
        """The arg-max class [N]."""
        numbers: NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return numbers

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the arg-max class is the label [N]."""
        hits: NDArray[np.bool_] = self.decisions == self.labels
        return hits

    def taken(self, order: NDArray[np.int64]) -> Predictions:
        """The same images in another order."""
        return Predictions(
            self.ids[order], self.groups[order], self.sites[order], self.labels[order], self.probabilities[order],
            self.classes,
        )  # fmt: skip


def same_images(one: Predictions, two: Predictions) -> bool:
    """Whether two predictions are of the same images with the same labels and classes."""
    return (
        one.classes == two.classes
        and one.ids.size == two.ids.size
        and bool(np.array_equal(one.ids, two.ids) and np.array_equal(one.labels, two.labels))
    )


def paired(one: Predictions, two: Predictions) -> Paired | None:
    """Two predictions of the same images, to be compared; None where the images, labels or classes differ."""
    if not same_images(one, two):
        return None
    return Paired(one.ids, one.groups, one.labels, one.probabilities, two.probabilities)


def write_predictions(
    folder: Path,
    part: FileName,
    columns: Mapping[str, NDArray[Any]],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
) -> None:
    """Write a part's predictions into a cell's folder.

    Args:
        columns: [N] each: image_id, group, site, label, and client where there are clients.
        probabilities: float32 [N, k] for k classes.
    """
    import pyarrow as pa

    shares = {f"p_{name}": probabilities[:, index] for index, name in enumerate(classes)}
    arrays = {name: pa.array(values) for name, values in {**columns, **shares}.items()}
    write_table(folder / predictions_file(part), pa.table(arrays))


def read_predictions(cell: StoredCell, part: FileName = "test") -> Predictions:
    """A part's predictions of a finished cell. Raises UserError naming the file and what is wrong with it."""
    path = cell.folder / predictions_file(part)
    if cell.result is None:
        raise UserError(f"{path}: the cell has no result")
    classes = tuple(str(name) for name in cell.result["data"]["classes"])
    if not path.is_file():
        raise UserError(f"{path} is missing: its curves and comparisons are left out")
    table = read_table(path, MADE_AGAIN)
    wanted = ["image_id", "group", "site", "label", *(f"p_{name}" for name in classes)]
    lacking = [name for name in wanted if name not in table.column_names]
    if lacking:
        raise UserError(f"{path} lacks the columns {', '.join(lacking)}")
    place = "client" if "client" in table.column_names else "site"
    _check_kinds(path, table, {"image_id": "text", "group": "text", place: "text", "label": "whole numbers"}
                 | dict.fromkeys(wanted[4:], "numbers"))  # fmt: skip
    text = [np.asarray(table.column(name).to_pylist(), dtype=str) for name in ("image_id", "group", place)]
    labels = table.column("label").to_numpy()
    shares = np.stack([table.column(name).to_numpy() for name in wanted[4:]], axis=1)
    given = scores(labels, shares, classes)
    found = Predictions(text[0], text[1], text[2], given.labels, given.probabilities, classes)
    if part == "test":
        _agree(cell, found)
    return found.taken(np.argsort(found.ids, kind="stable"))


def _check_kinds(path: Path, table: pa.Table, kinds: Mapping[str, str]) -> None:
    """Refuse columns that hold something else than what they are to hold, or gaps. Raises UserError."""
    import pyarrow as pa

    fits = {"text": _is_text, "whole numbers": pa.types.is_integer, "numbers": _is_number}
    for name, kind in kinds.items():
        column = table.column(name)
        if not fits[kind](column.type):
            raise UserError(f"{path} is damaged ({name} holds {column.type}, not {kind}); {MADE_AGAIN}")
        if column.null_count and kind != "numbers":
            raise UserError(f"{path} is damaged ({name} has gaps); {MADE_AGAIN}")


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _agree(cell: StoredCell, found: Predictions) -> None:
    """Predictions whose accuracy is not the stored one belong to something else."""
    stored = (cell.result or {}).get("metrics", {}).get("accuracy")
    if stored is not None and abs(float(found.right.mean()) - stored) > 1e-6:
        raise UserError(f"{cell.folder / PREDICTIONS} does not give the accuracy that result.json holds; run again")


def read_history(cell: StoredCell) -> list[dict[str, Any]]:
    """A row an epoch or round; none for clients that train alone, whose rows are clients, not steps of one fit.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    path = cell.folder / HISTORY
    if not path.is_file():
        raise UserError(f"{path} is missing: its learning curves are left out")
    table = cell.history()
    if table.column_names[:1] == ["client"]:
        return []
    if "epoch" not in table.column_names and "round" not in table.column_names:
        raise UserError(f"{path} has neither epochs nor rounds")
    _check_kinds(path, table, {name: "whole numbers" for name in ("epoch", "round") if name in table.column_names}
                 | {name: "numbers" for name in table.column_names if name.startswith(_FIGURES)})  # fmt: skip
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
