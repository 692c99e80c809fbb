"""Putting questions to finished cells, or to all of a run's: an answer is kept while its key is the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import ValidationError

import bench.analyses.builtin  # noqa: F401 - registers what comes along
from bench.analyses.registry import ANALYSES, AnalysisSpec, Answer, Settings
from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.store.answers import StoredAnswer, read_answer, write_answer, writing
from bench.store.cells import StoredCell
from bench.store.failures import failure_of
from bench.store.files import now
from bench.store.layout import answer_path, failure_path
from bench.store.run import Run

Status = Literal["answered", "kept", "failed"]


@dataclass(frozen=True)
class Question:
    """An analysis with its settings."""

    spec: AnalysisSpec
    settings: Settings

    def key(self, cell: str) -> str:
        """What the answer about a cell depends on, as a digest."""
        return digest([self.spec.name, self.spec.version, self.plain, cell])

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return self.settings.model_dump(mode="json")


@dataclass(frozen=True)
class WholeRun:
    """The finished cells of a run, for questions to all of them together.

    Attributes:
        folder: the run's.
    """

    folder: Path
    cells: tuple[StoredCell, ...]

    @property
    def key(self) -> str:
        """Names the cells."""
        return digest(sorted(cell.key for cell in self.cells))

    @property
    def spec(self) -> dict[str, Any]:
        """What is told of it: how many cells it is."""
        return {"cells": len(self.cells)}


Subject = StoredCell | WholeRun


@dataclass(frozen=True)
class Outcome:
    """How a question to a cell, or to a whole run, ended; the error of a failed one."""

    cell: Subject
    question: Question
    status: Status
    error: str = ""


def questions(names: str, values: Sequence[str] = ()) -> list[Question]:
    """The questions of the options --with and --set.

    Args:
        names: "all", or names and shell patterns, comma-separated.
        values: each NAME.field=value; the value is JSON where it can be read as such, and text otherwise.

    Raises:
        UserError: an unknown analysis or field, a value that does not fit, or a setting of an analysis not asked.
    """
    chosen = ANALYSES.match(names)
    given: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for text in values:
        name, field, value = _assignment(text)
        if name not in given:
            raise UserError(f"--set {text}: {name!r} is not among the analyses asked ({', '.join(chosen)})")
        given[name][field] = value
    return [question(name, given[name]) for name in chosen]


def question(name: str, values: Mapping[str, Any]) -> Question:
    """An analysis with settings from plain values. Raises UserError for what does not fit."""
    spec = ANALYSES.get(name)
    try:
        return Question(spec, spec.configured(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(spec.settings.model_fields) or "none"
        raise UserError(f"{name}.{field}: {first['msg']}; its settings are {known}") from error


def _assignment(text: str) -> tuple[str, str, Any]:
    target, equals, value = text.partition("=")
    name, dot, field = target.strip().partition(".")
    if not (equals and dot and name and field):
        raise UserError(f"--set takes NAME.field=value, not {text!r}")
    try:
        return name, field, json.loads(value)
    except (ValueError, RecursionError):
        return name, field, value


def chosen_cells(run: Run, pattern: str = "*") -> list[StoredCell]:
    """The finished cells that a key's beginning, or a shell pattern on their names, stands for.

    Raises:
        UserError: no finished cell matches.
    """
    from bench.store.cells import matching

    done = [cell for cell in run.cells() if cell.status == "done"]
    found = matching(done, pattern)
    if not found:
        raise UserError(
            f"--cells {pattern}: none of the {len(done)} finished cells of {run.path} matches; "
            "give the beginning of a key, or a pattern such as 'deepmedix · *'"
        )
    return found


def opened(cell: Subject) -> Any:
    """The cell made alive; a whole run as it is."""
    if isinstance(cell, WholeRun):
        return cell
    from bench.harness.finished import FinishedCell

    return FinishedCell.of(cell)


def analyze(
    cells: Sequence[Subject],
    asked: Sequence[Question],
    tell: Callable[[Subject, Question], None] = lambda cell, question: None,
    open_cell: Callable[[Any], Any] = opened,
) -> Iterator[Outcome]:
    """Put every question to every cell, those to a run to the run; an answer that is there with the right key is kept.

    Args:
        cells: what is asked, in this order.
        tell: hears which question is put next.
        open_cell: makes a stored cell alive.

    Yields:
        One outcome a cell and question. An error of an analysis is stored and told, and the next question is put.
    """
    for cell in cells:
        mine = [each for each in asked if each.spec.of == ("run" if isinstance(cell, WholeRun) else "cell")]
        if not mine:
            continue
        with FileLock(cell.folder / ".lock"):
            alive: Any = None
            for each in mine:
                if is_kept(cell, each):
                    yield Outcome(cell, each, "kept")
                    continue
                tell(cell, each)
                try:
                    alive = alive or open_cell(cell)
                    _ask(alive, cell, each)
                    yield Outcome(cell, each, "answered")
                except Exception as error:  # noqa: BLE001 - a failure is a row with its reason
                    yield Outcome(cell, each, "failed", _store_failure(cell, each, error))


def is_kept(cell: Subject, asked: Question) -> bool:
    """Whether the answer is there, whole, and of the same key."""
    if not answer_path(cell.folder, asked.spec.name).is_file():
        return False
    try:
        return read_answer(cell.folder, asked.spec.name).key == asked.key(cell.key)
    except UserError:
        return False


def _ask(alive: Any, cell: Subject, asked: Question) -> None:
    """Ask, check what is answered, and write it."""
    clock = time.perf_counter()
    name = asked.spec.name
    with writing(cell.folder, name) as folder:
        answer = asked.spec.load()(alive, asked.settings, folder)
        stored = _stored(answer, asked, cell.key, folder, time.perf_counter() - clock)
    write_answer(cell.folder, stored)


def _stored(answer: Answer, asked: Question, cell: str, folder: Path, seconds: float) -> StoredAnswer:
    """The answer as it is written. Raises ValueError for a column or a file that is not the analysis' own."""
    name = asked.spec.name
    foreign = [column for column in answer.columns if not column.startswith(f"{name}_")]
    if foreign:
        raise ValueError(f"the column {foreign[0]!r} of analysis {name!r} does not begin with {name}_")
    return StoredAnswer(
        name=name,
        title=asked.spec.title,
        version=asked.spec.version,
        settings=asked.plain,
        key=asked.key(cell),
        columns={column: (found.value, found.low, found.high) for column, found in answer.columns.items()},
        tables=answer.tables,
        files={shown: str(Path(name) / path.relative_to(folder)) for shown, path in answer.files.items()},
        notes=list(answer.notes),
        written=now(),
        seconds=seconds,
    )


def _store_failure(cell: Subject, asked: Question, error: Exception) -> str:
    record = failure_of(cell.key, dict(cell.spec), error)
    write_json(failure_path(cell.folder, asked.spec.name), {**record, "settings": asked.plain})
    return str(record["error"])


def listing() -> list[dict[str, Any]]:
    """A row an analysis: name, title, summary, what it needs, and its settings with their defaults."""
    return [_row(ANALYSES.get(name)) for name in ANALYSES.names()]


def _row(spec: AnalysisSpec) -> dict[str, Any]:
    return {
        "name": spec.name, "title": spec.title, "summary": spec.summary, "needs": sorted(spec.needs),
        "version": spec.version, "settings": spec.configured({}).model_dump(mode="json"),
    }  # fmt: skip
