"""Read a run's folder and go on past whatever is missing, truncated or corrupt, naming it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.cellspec import EXTERNAL
from bench.core.errors import UserError
from bench.core.schema import check_regular, parsed_json, refuse_links_out
from bench.store.answers import StoredAnswer
from bench.store.cells import StoredCell
from bench.store.files import AGAIN, read_cell, read_environment, read_failure, read_plan
from bench.store.layout import (
    BEST,
    CELL,
    ENVIRONMENT,
    FAILURE,
    HISTORY,
    PLAN,
    PREDICTIONS,
    PREDICTOR,
    PREDICTOR_WEIGHTS,
    SCHEMA,
    WANDB_FOLDER,
)
from bench.store.predictions import Predictions, read_history, read_predictions
from bench.store.run import Run
from reports.load.answers import read_answers, with_columns

# What the format itself allows of a header.
_HEADER = 100_000_000


@dataclass
class Source:
    """A run as far as it can be read.

    Attributes:
        cells: in the plan's order; a cell whose result makes no sense has status "corrupt".
        problems: one sentence a file that could not be read, naming it.
        answers: of analyses, by the cell's key; their metrics are among the cells' own too.
        run_answers: of analyses of the whole run.
    """

    path: Path
    cells: list[StoredCell]
    environment: dict[str, Any]
    plan: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    answers: dict[str, list[StoredAnswer]] = field(default_factory=dict)
    run_answers: list[StoredAnswer] = field(default_factory=list)
    _predictions: dict[str, Predictions | None] = field(default_factory=dict)
    _histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.path.resolve().name

    @property
    def done(self) -> list[StoredCell]:
        """The cells that have a result."""
        return [cell for cell in self.cells if cell.result is not None]

    def predictions(self, cell: StoredCell) -> Predictions | None:
        """The predictions of a cell, None (and a problem named once) when its file cannot be used."""
        if cell.key not in self._predictions:
            try:
                self._predictions[cell.key] = read_predictions(cell)
            except UserError as error:
                self._note(cell, PREDICTIONS, str(error))
                self._predictions[cell.key] = None
        return self._predictions[cell.key]

    def history(self, cell: StoredCell) -> list[dict[str, Any]]:
        """A row an epoch or round; empty (and a problem named once) when its file cannot be used."""
        if cell.key not in self._histories:
            try:
                self._histories[cell.key] = read_history(cell)
            except UserError as error:
                self._note(cell, HISTORY, str(error))
                self._histories[cell.key] = []
        return self._histories[cell.key]

    def read_ahead(self) -> None:
        """Read every cell's tables, a few files at a time."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda cell: (self.predictions(cell), self.history(cell)), self.done))

    def _note(self, cell: StoredCell, file: str, problem: str) -> None:
        path = str(cell.folder / file)
        self.problems.append(problem if path in problem else f"{path}: {problem}")


def load(path: Path) -> Source:
    """Read a run.

    Raises:
        UserError: when the folder is no run at all, or one of another layout.
    """
    problems: list[str] = []
    refuse_links_out(path, "remove it", {WANDB_FOLDER})
    plan = _read_plan(path, problems)
    environment = _read_optional(path / ENVIRONMENT, problems)
    run = Run(path)
    cells, answers = [], {}
    for entry in plan["cells"]:
        cell = run.cell(entry["key"], entry["cell"])
        problems += _file_problems(cell)
        if cell.result is not None:
            answers[cell.key] = read_answers(cell.folder, problems)
        cells.append(with_columns(cell, answers.get(cell.key, [])))
    return Source(path, cells, environment, plan, problems, answers, read_answers(path, problems))


def _read_plan(path: Path, problems: list[str]) -> dict[str, Any]:
    """The plan, or what the cells' own folders tell when it is lost."""
    try:
        plan = read_plan(path / PLAN)
    except UserError as error:
        if not (path / "cells").is_dir():
            raise UserError(f"{path} is no run: name a folder that `bench run --out` made") from error
        problems.append(f"{_lost(path / PLAN, error)}; the cells were taken from their folders")
        return {"schema": SCHEMA, "command": "", "written": "", "cells": _cells_by_folder(path, problems)}
    if plan["schema"] != SCHEMA:
        raise UserError(f"{path} was made by another version (layout {plan['schema']}, this one reads {SCHEMA})")
    return plan


def _lost(path: Path, error: UserError) -> str:
    return f"{path} is missing" if not path.exists() else str(error)


def _cells_by_folder(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    found = []
    for folder in sorted(inner for inner in (path / "cells").iterdir() if inner.is_dir()):
        try:
            spec = {name: value for name, value in read_cell(folder / CELL).items() if name != "key"}
        except UserError as error:
            problems.append(f"{_lost(folder / CELL, error)}; without the plan this cell cannot be shown")
            continue
        found.append({"key": folder.name, "cell": spec})
    return found


def _read_optional(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return read_environment(path)
    except UserError as error:
        problems.append(_lost(path, error))
        return {}


def _file_problems(cell: StoredCell) -> list[str]:
    """What is wrong with a cell's files besides predictions and history, which are looked at when they are read."""
    if cell.status == "missing":
        return []
    found = []
    if cell.status == "corrupt":
        found.append(cell.problem)
    found += _problems(read_cell, cell.folder / CELL)
    if cell.status == "failed":
        found += _problems(read_failure, cell.folder / FAILURE)
    return found + _weights_problems(cell)


def _problems(read: Callable[[Path], object], path: Path) -> list[str]:
    try:
        read(path)
    except UserError as error:
        return [_lost(path, error)]
    return []


def weights_file(folder: Path) -> Path:
    """Where a cell's tensors are: in its predictor's folder, or where earlier versions put them."""
    path, earlier = folder / PREDICTOR / PREDICTOR_WEIGHTS, folder / BEST
    return path if path.is_file() or not earlier.is_file() else earlier


def _weights_problems(cell: StoredCell) -> list[str]:
    """A safetensors file says in its header how long it must be."""
    if cell.result is None or cell.spec["model"].startswith(EXTERNAL):
        return []
    path = weights_file(cell.folder)
    if not path.is_file():
        return [f"{path} is missing: the cell's metrics stand, its weights are lost"]
    size = path.stat().st_size
    try:
        check_regular(path, AGAIN, size)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, size, _HEADER))
        header = parsed_json(path, text, dict[str, dict[str, Any]], AGAIN)
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except UserError as error:
        return [str(error)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return [f"{path} cannot be read as weights ({error})"]
    expected = 8 + length + max(ends, default=0)
    return [] if expected == size else [f"{path} holds {size} bytes, its header says {expected}"]
