"""Somebody else's predictions as a cell: the same test set, the same metrics, intervals and comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.core.atomic import write_json
from bench.core.cellspec import EXTERNAL, CellSpec
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.schema import read_table
from bench.data import registry as datasets
from bench.data.sources.manifest import read_csv
from bench.data.splits import Split, expand, split
from bench.data.table import Table
from bench.harness.environment import environment
from bench.harness.measuring import described, measured
from bench.measure.quality import scores
from bench.store.files import now, write_table
from bench.store.layout import CELL, ENVIRONMENT, HISTORY, RESULT, SCHEMA
from bench.store.predictions import write_predictions
from bench.store.run import Run

NOTE = "external: its predictions were brought in a file; how they were made nobody here has seen"
_MEND = "give a column image_id and a column p_CLASS for each class"


@dataclass(frozen=True)
class Scored:
    """A cell made of a file of predictions.

    Attributes:
        key: what it is stored under.
        result: what its result.json holds.
    """

    key: str
    result: dict[str, Any]


def score(file: Path, name: str, spec: CellSpec, run: Path) -> Scored:
    """Store predictions of a file as a finished cell of a run.

    Args:
        file: CSV or Parquet: image_id and p_CLASS for each class, one row a test image in any order.
        name: what the system is called; its cells are named "external:NAME".
        spec: what it is compared with: dataset, split, regime, seed and the protocol of the cells beside it.
        run: a new folder, or a run to add it to.

    Raises:
        UserError: the file is not of that form, is of other images than the test set, or the run holds another cell of
            that name.
    """
    spec = CellSpec(EXTERNAL + name, spec.dataset, spec.split, spec.regime, spec.protocol, spec.seed)
    table = datasets.load(spec.dataset, spec.protocol)
    if expand(table, spec.split) != [spec.split]:
        raise UserError(f"{spec.dataset} has folds: name one, --split {expand(table, spec.split)[0]}")
    parts = split(table, spec.split, spec.data_seed)
    predicted = _matched(file, table, parts)
    key = spec.key({"external": name}, table.fingerprint(), digest(predicted.tolist()))
    stored = _own_name(Run.create(run), spec, key)
    stored.write_plan([{"key": key, "cell": spec.as_dict()}], f"bench score {file.name}")
    if not stored.environment():
        write_json(stored.path / ENVIRONMENT, environment())
    return Scored(key, _write(stored.folder(key), key, spec, table, parts, predicted))


def _own_name(run: Run, spec: CellSpec, key: str) -> Run:
    for cell in run.cells():
        if cell.spec == spec.as_dict() and cell.key != key:
            raise UserError(
                f"{run.path} holds other predictions of {spec.name}; `bench runs drop {run.path} --cells {cell.key}`, "
                "or choose another --name"
            )
    return run


def _write(
    folder: Path, key: str, spec: CellSpec, table: Table, parts: Split, predicted: NDArray[np.float32]
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CELL, {"key": key, **spec.as_dict()})
    # No fit was seen: no epochs.
    write_table(folder / HISTORY, pa.table({"epoch": pa.array([], pa.int64())}))
    columns = {"image_id": table.ids, "group": table.groups, "site": table.sites, "label": table.labels}
    taken = {name: values[parts.test] for name, values in columns.items()}
    write_predictions(folder, "test", taken, predicted, table.classes)
    result = {
        "schema": SCHEMA, "key": key, "cell": spec.as_dict(), **measured(spec, table, parts.test, predicted),
        "cost": {}, "timing": {}, "data": described(table, parts), "notes": [NOTE], "started": now(),
        "seconds": 0.0,
    }  # fmt: skip
    write_json(folder / RESULT, result)
    return result


def _matched(file: Path, table: Table, parts: Split) -> NDArray[np.float32]:
    """The file's probabilities in the order of the test set, float32 [N, k]."""
    given = _read(file)
    wanted = ["image_id", *(f"p_{name}" for name in table.classes)]
    lacking = [name for name in wanted if name not in given]
    if lacking:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}; {_MEND} of {table.name}")
    rows = {name: place for place, name in enumerate(map(str, given["image_id"]))}
    ids = table.ids[parts.test].tolist()
    _refuse_others(file, rows, ids, len(given["image_id"]))
    try:
        shares = np.stack([np.asarray(given[name], dtype=np.float32) for name in wanted[1:]], axis=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file} holds what is no number ({error}); {_MEND}") from error
    taken: NDArray[np.float32] = shares[[rows[name] for name in ids]]
    scores(table.labels[parts.test], taken, table.classes)
    return taken


def _read(file: Path) -> dict[str, Any]:
    if file.suffix == ".parquet":
        stored = read_table(file, _MEND)
        return {name: stored.column(name).to_pylist() for name in stored.column_names}
    stored = read_csv(file)
    return {name: [row[name] for row in stored.rows] for name in stored.header}


def _refuse_others(file: Path, rows: dict[str, int], ids: list[str], lines: int) -> None:
    if lines != len(rows):
        raise UserError(f"{file} has {lines} rows of {len(rows)} images; give each test image once")
    missing, extra = [name for name in ids if name not in rows], sorted(set(rows) - set(ids))
    if missing or extra:
        some = ", ".join((missing or extra)[:3])
        raise UserError(
            f"{file} is of other images than this test set: {len(missing)} of {len(ids)} are missing, {len(extra)} are "
            f"none of it ({some}); check --dataset, --split and --seed"
        )
