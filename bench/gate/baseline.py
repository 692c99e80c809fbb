"""What a run is held against: another run's folder, or a small file that lives in git and shows what changed in a diff.

The file keeps, a cell: its metrics, the errors of those metrics, its cost, and the predicted class of each test image
as one character, in the order of the image ids. That is enough to pair decisions (accuracy, recall, F1) image by image;
metrics that need probabilities (ROC-AUC, log loss) are then compared by their intervals.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, with_config
from typing_extensions import TypedDict

import bench
from bench.core.atomic import write_text
from bench.core.cellspec import BETWEEN, name_of, with_todays_words
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.schema import read_json
from bench.measure.columns import QUALITY, names_of
from bench.measure.statistics.paired import Z95
from bench.measure.statistics.pooled import Paired
from bench.store.cells import StoredCell
from bench.store.conditions import differing, protocol_settings, variants
from bench.store.predictions import Predictions, paired, read_predictions
from bench.store.run import Run

SCHEMA = 1
ALPHABET = string.digits + string.ascii_letters
_LINE = 100
# How a cell is measured, not how it is trained.
_ASIDE = ("timing_", "bootstrap_")
_ANEW = "write it anew with --update"


@with_config(ConfigDict(extra="allow"))
class _Entry(TypedDict):
    protocol: NotRequired[str]
    data: NotRequired[str]
    classes: NotRequired[Annotated[list[str], Field(min_length=2)]]
    metrics: NotRequired[dict[str, FiniteFloat | None] | None]
    errors: NotRequired[dict[str, Annotated[FiniteFloat, Field(ge=0)]]]
    cost: NotRequired[dict[str, FiniteFloat]]
    images: NotRequired[str]
    decisions: NotRequired[list[str]]
    problem: NotRequired[str]


@with_config(ConfigDict(extra="allow"))
class _File(TypedDict):
    schema: int
    protocols: NotRequired[dict[str, dict[str, Any]]]
    cells: dict[str, _Entry]


@dataclass(frozen=True)
class Images:
    """A test set by rising image id: its decisions [N], and the whole predictions where a run's folder keeps them."""

    ids_digest: str
    decisions: NDArray[np.int64]
    predictions: Predictions | None = None


@dataclass(frozen=True)
class SideCell:
    """One cell of one side.

    Attributes:
        metrics: None when the cell has no result; `problem` says why.
        errors: standard errors, from the 95 % intervals.
        data: what the test set is: fingerprint and classes.
    """

    metrics: Mapping[str, float | None] | None
    problem: str = ""
    classes: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    images: Images | None = None

    def changed(self, other: SideCell) -> str:
        """Why two cells are not the same experiment; "" when they are."""
        # One that only one side has was removed by a version since; what it did shows in the metrics.
        one, two = (protocol_settings(cell.protocol, "federated" in cell.protocol) for cell in (self, other))
        names = differing(one, two, lambda name: name in one and name in two and not name.startswith(_ASIDE))
        if names:
            return f"the protocol differs in {', '.join(sorted(names))}"
        if self.classes != other.classes or self.data != other.data:
            return "the dataset or its test set changed"
        return ""


@dataclass(frozen=True)
class Side:
    """One side of a check: its cells by readable name."""

    cells: dict[str, SideCell]
    has_probabilities: bool


def load_side(path: Path) -> Side:
    """Read a run's folder or a baseline file.

    Raises:
        UserError: neither of them, or of another layout.
    """
    if path.is_dir():
        cells = Run.open(path).cells()
        names = _names(cells)
        return Side({name: _of_run(cell) for name, cell in zip(names, cells, strict=True)}, has_probabilities=True)
    if not path.is_file():
        raise UserError(f"there is no baseline at {path}; write one with `bench check RUN --baseline {path} --update`")
    stored = read_json(path, _File, _ANEW)
    if stored["schema"] != SCHEMA:
        raise UserError(f"{path} is no baseline of this version; {_ANEW}")
    protocols = stored.get("protocols", {})
    try:
        return Side({name: _of_file(entry, protocols) for name, entry in stored["cells"].items()}, False)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); {_ANEW}") from error


def dataset_of(name: str) -> str:
    """The dataset in a cell's readable name."""
    return name.split(BETWEEN)[1]


def _names(cells: Sequence[StoredCell]) -> list[str]:
    """Readable names; in what cells differ besides, as tables say it, only where a run has several of one name."""
    told, plain = variants(cells), [name_of(cell.spec) for cell in cells]
    return [
        f"{name}{BETWEEN}{told[cell.key]}" if plain.count(name) > 1 and told[cell.key] else name
        for name, cell in zip(plain, cells, strict=True)
    ]


def _of_run(cell: StoredCell) -> SideCell:
    if cell.result is None:
        return SideCell(None, f"{cell.status}: {cell.problem}")
    result = cell.result
    images, data = _images(cell), result["data"]
    return SideCell(
        metrics={name: result["metrics"].get(name) for name in names_of(*QUALITY)},
        classes=tuple(data["classes"]),
        errors=_errors(result["intervals"]),
        cost={name: result["cost"][name] for name in names_of("cost") if result["cost"].get(name) is not None},
        protocol=cell.spec["protocol"],
        data=str(data.get("test_fingerprint") or data.get("fingerprint")),
        images=images,
    )


def _errors(intervals: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    known = {name: intervals[name] for name in names_of(*QUALITY) if name in intervals}
    return {
        name: (high - low) / (2 * Z95) for name, (low, high) in known.items() if low is not None and high is not None
    }


def _images(cell: StoredCell) -> Images | None:
    """The predictions, None when their file cannot be used: the metrics stay, compared by interval."""
    try:
        found = read_predictions(cell)
    except UserError:
        return None
    return Images(digest(found.ids.tolist()), found.decisions, found)


def _of_file(entry: Mapping[str, Any], protocols: Mapping[str, Any]) -> SideCell:
    if entry.get("metrics") is None:
        return SideCell(None, str(entry.get("problem", "no result")))
    letters = "".join(entry.get("decisions") or [])
    numbers = np.array([ALPHABET.index(letter) for letter in letters], dtype=np.int64)
    if letters and numbers.max() >= len(entry["classes"]):
        raise ValueError(f"a decision for class {numbers.max()} of {len(entry['classes'])}")
    return SideCell(
        metrics=entry["metrics"],
        classes=tuple(entry["classes"]),
        errors=entry["errors"],
        cost=entry["cost"],
        protocol=with_todays_words({"protocol": protocols[entry["protocol"]]})["protocol"],
        data=entry["data"],
        images=Images(entry["images"], numbers) if letters else None,
    )


def pair(base: Side, now: Side, name: str) -> Paired | None:
    """Now (first) and base (second) on the same images; None where either side's predictions are lost or others.

    Args:
        base, now: the two sides.
        name: of a cell that both have.
    """
    then, current = base.cells[name].images, now.cells[name].images
    if then is None or current is None or current.predictions is None or then.ids_digest != current.ids_digest:
        return None
    if then.predictions is not None:
        return paired(current.predictions, then.predictions)
    # The file keeps ids as a digest and decisions alone: of labels, `SideCell.changed` has told that they are the same.
    if len(then.decisions) != len(current.decisions):
        return None
    here, size = current.predictions, len(now.cells[name].classes)
    return Paired(here.ids, here.groups, here.labels, np.eye(size)[current.decisions], np.eye(size)[then.decisions])


def write_baseline(run: Path, path: Path) -> dict[str, int]:
    """Write a run's finished cells as a baseline file; {"cells": how many, "left_out": cells without a result}.

    Raises:
        UserError: no run, nothing finished, or the disk is full.
    """
    side = load_side(run)
    done = {name: cell for name, cell in side.cells.items() if cell.metrics is not None}
    if not done:
        raise UserError(f"{run} has no finished cell to make a baseline of")
    protocols = {digest(dict(cell.protocol), 8): dict(cell.protocol) for cell in done.values()}
    entries = {name: _entry(cell) for name, cell in sorted(done.items())}
    stored = {"schema": SCHEMA, "bench": bench.__version__, "run": run.resolve().name, "protocols": protocols}
    write_text(path, json.dumps({**stored, "cells": entries}, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return {"cells": len(done), "left_out": len(side.cells) - len(done)}


def _entry(cell: SideCell) -> dict[str, Any]:
    metrics = {name: _short(value) for name, value in (cell.metrics or {}).items() if value is not None}
    entry: dict[str, Any] = {
        "protocol": digest(dict(cell.protocol), 8), "data": cell.data, "classes": list(cell.classes),
        "metrics": metrics,
        "errors": {name: _short(value) for name, value in cell.errors.items()}, "cost": dict(cell.cost),
    }  # fmt: skip
    if cell.images is not None and len(cell.classes) <= len(ALPHABET):
        letters = "".join(ALPHABET[number] for number in cell.images.decisions)
        lines = [letters[at : at + _LINE] for at in range(0, len(letters), _LINE)]
        entry |= {"images": cell.images.ids_digest, "decisions": lines}
    return entry


def _short(value: float) -> float:
    """Six digits: below what one image in a million would change."""
    return round(value, 6) if math.isfinite(value) else 0.0
