"""What analyses answered about a cell: cells/KEY/analyses/NAME.json, its files beside it, NAME.failure.json.

An answer's file is written last; the files that it names lie in analyses/NAME/.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.store.files import read_failure
from bench.store.layout import ANSWER_FAILURE, ANSWERS, answer_path, failure_path

SCHEMA = 1
Bounds = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class StoredAnswer:
    """An answer as its file holds it.

    Attributes:
        key: names the cell, the analysis' version and its settings.
        columns: (value, low, high) of each metric; None where it is not known.
        tables: rows of plain values, by name.
        files: paths below the cell's folder `analyses`, by what they show.
        notes: what a reader must know, a sentence each.
    """

    name: str
    title: str
    version: int
    settings: dict[str, Any]
    key: str
    columns: dict[str, Bounds]
    tables: dict[str, list[dict[str, Any]]]
    files: dict[str, str]
    notes: list[str]
    written: str
    seconds: float


def answered(cell: Path) -> list[str]:
    """The names of the analyses that have a file of an answer, in alphabetical order."""
    found = (cell / ANSWERS).glob("*.json")
    return sorted(path.stem for path in found if path.name[0] != "." and not path.name.endswith(ANSWER_FAILURE))


def failed(cell: Path) -> dict[str, str]:
    """The reason of each analysis whose last attempt failed, by name."""
    found = {}
    for path in sorted((cell / ANSWERS).glob(f"*{ANSWER_FAILURE}")):
        found[path.name.removesuffix(ANSWER_FAILURE)] = str(read_failure(path).get("error", "no reason was written"))
    return found


def read_answer(cell: Path, name: str) -> StoredAnswer:
    """An answer. Raises UserError naming the file and what is wrong with it."""
    path = answer_path(cell, name)
    given = dict(read_json(path, dict[str, Any], "delete it and ask again"))
    if given.pop("schema", None) != SCHEMA:
        raise UserError(f"{path} is of another layout than {SCHEMA}; delete it and ask again")
    wrong = _misshapen(given)
    if wrong:
        raise UserError(f"{path} {wrong}; delete it and ask again")
    columns = {name: (each["value"], each["low"], each["high"]) for name, each in given.pop("columns").items()}
    return StoredAnswer(columns=columns, **given)


@contextmanager
def writing(cell: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder for an answer's files, which takes the place of the earlier one's when the block ends well.

    The earlier answer is removed with its files: what is written next is the new one.
    """
    root = cell / ANSWERS
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    scratch.chmod(0o777 & ~_umask())
    try:
        yield scratch
        answer_path(cell, name).unlink(missing_ok=True)
        shutil.rmtree(root / name, ignore_errors=True)
        if any(scratch.iterdir()):
            scratch.rename(root / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_answer(cell: Path, answer: StoredAnswer) -> None:
    """Write an answer, and forget that an earlier attempt failed."""
    columns = {name: dict(zip(("value", "low", "high"), each, strict=True)) for name, each in answer.columns.items()}
    write_json(answer_path(cell, answer.name), {"schema": SCHEMA, **asdict(answer), "columns": columns})
    failure_path(cell, answer.name).unlink(missing_ok=True)


def _umask() -> int:
    import os

    current = os.umask(0)
    os.umask(current)
    return current


_SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "title": str, "version": int, "settings": dict, "key": str, "columns": dict, "tables": dict,
    "files": dict, "notes": list, "written": str, "seconds": (int, float),
}  # fmt: skip


def _misshapen(given: Mapping[str, Any]) -> str:
    """What is wrong with a parsed answer; "" when nothing is."""
    if given.keys() != _SHAPES.keys():
        return f"has the fields {', '.join(sorted(given))}, not {', '.join(sorted(_SHAPES))}"
    odd = [name for name, shape in _SHAPES.items() if not isinstance(given[name], shape)]
    if odd:
        return f"has no proper {odd[0]}"
    if not all(_is_estimate(each) for each in given["columns"].values()):
        return "has a column that is no value with its bounds"
    if not all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in given["tables"].values()
    ):
        return "has a table that is no list of rows"
    if not all(_is_below(path) for path in given["files"].values()):
        return "names a file outside its folder"
    return ""


def _is_estimate(each: object) -> bool:
    return (
        isinstance(each, dict)
        and each.keys() == {"value", "low", "high"}
        and all(value is None or _is_number(value) for value in each.values())
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_below(path: object) -> bool:
    return isinstance(path, str) and not Path(path).is_absolute() and ".." not in Path(path).parts
