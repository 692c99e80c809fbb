"""The answers of analyses about a run's cells, read past whatever is missing or corrupt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.core.errors import UserError
from bench.store.answers import StoredAnswer, answered, failed, read_answer
from bench.store.cells import StoredCell
from bench.store.layout import failure_path


def read_answers(folder: Path, problems: list[str]) -> list[StoredAnswer]:
    """Every answer about a cell, or about the whole run, by its folder, that can be read.

    A problem names each file that cannot be, and each analysis that failed.
    A failed attempt leaves an earlier answer, under other settings, where it was.
    """
    found = []
    for name in answered(folder):
        try:
            found.append(read_answer(folder, name))
        except UserError as error:
            problems.append(str(error))
    problems += _failures(folder)
    return found


def _failures(folder: Path) -> list[str]:
    try:
        reasons = failed(folder)
    except UserError as error:
        return [str(error)]
    return [f"{failure_path(folder, name)}: the analysis failed: {reason}" for name, reason in reasons.items()]


def with_columns(cell: StoredCell, answers: list[StoredAnswer]) -> StoredCell:
    """The cell with the answers' metrics among its own, under their own names and with their own intervals."""
    if cell.result is None or not answers:
        return cell
    brought = {name: each for answer in answers for name, each in answer.columns.items() if each[0] is not None}
    taken = cell.result["metrics"].keys() & brought.keys()
    metrics = cell.result["metrics"] | {name: each[0] for name, each in brought.items() if name not in taken}
    bounds = cell.result["intervals"] | {
        name: [each[1], each[2]] for name, each in brought.items() if name not in taken
    }
    return replace(cell, result={**cell.result, "metrics": metrics, "intervals": bounds})
