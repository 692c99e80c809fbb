"""A section of the page for each analysis that was asked: its metrics by model, its tables, its pictures and notes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.store.answers import StoredAnswer
from bench.store.layout import ANSWERS
from reports.load.source import Source
from reports.tables.grid import Row
from reports.tables.markup import Entry, Grid, grid

MOST_ROWS = 60
"""Rows of a table that the page shows; all of them are in the answer's file."""
PICTURE_BYTES = 6_000_000
"""Bytes of pictures that one page takes in, over all analyses."""
TABLE_CELLS = 60_000
"""Values in tables of single cells that one page takes in, over all analyses."""
FEWEST_ROWS = 5
"""Rows of a table that the page shows where its tables have become too many."""
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}


def answer_sections(source: Source, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A section an analysis, in the order in which cells name them."""
    titles = {answer.name: answer.title for found in source.answers.values() for answer in found}
    budget = _Budget(PICTURE_BYTES, TABLE_CELLS)
    whole = [_run_section(answer, source.path, budget) for answer in source.run_answers]
    return [*whole, *(_section(name, title, source, rows, budget) for name, title in titles.items())]


def answered_columns(source: Source) -> dict[str, str]:
    """The analysis' title behind each column that analyses bring, by its name."""
    return {column: answer.title for found in source.answers.values() for answer in found for column in answer.columns}


def _run_section(answer: StoredAnswer, run: Path, budget: _Budget) -> dict[str, Any]:
    """An answer about all cells together."""
    body: list[list[Entry | str]] = [
        [_plain(name, answer.name), _bounded(*found)] for name, found in answer.columns.items()
    ]
    tables = [_table(answer.name, title, rows, budget) for title, rows in answer.tables.items() if rows]
    pictures = [_picture(run / ANSWERS / path, shown, budget) for shown, path in _drawn(answer).items()]
    return {
        "anchor": f"analysis-{answer.name}",
        "title": answer.title,
        "settings": _written(answer.settings),
        "notes": answer.notes,
        "metrics": [grid(f"analysis-{answer.name}", "Of the whole run, 95 % interval", ["metric", "value"], body)],
        "rows": [
            {
                "title": "tables",
                "notes": [],
                "tables": tables,
                "pictures": pictures,
                "file": f"{ANSWERS}/{answer.name}.json",
            }
        ],
    }


def _drawn(answer: StoredAnswer) -> dict[str, str]:
    """The pictures among an answer's files."""
    return {shown: path for shown, path in answer.files.items() if Path(path).suffix in _TYPES}


class _Budget:
    """How many bytes of pictures and values of tables the page still takes."""

    def __init__(self, left: int, values: int) -> None:
        self._left = left
        self._values = values

    def rows(self, wanted: int, width: int) -> int:
        """How many rows of so many values are shown of a table; they are counted then."""
        shown = wanted if wanted * width <= self._values else min(wanted, FEWEST_ROWS)
        self._values = max(0, self._values - shown * width)
        return shown

    def takes(self, size: int) -> bool:
        """Whether a picture still fits; it is counted then."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


def _section(name: str, title: str, source: Source, rows: Sequence[Row], budget: _Budget) -> dict[str, Any]:
    asked = [(row, found) for row in rows if (found := _of_row(name, source, row))]
    shared = _shared_notes([found[0].notes for _, found in asked])
    return {
        "anchor": f"analysis-{name}",
        "title": title,
        "settings": _settings(found for _, found in asked),
        "notes": shared,
        "metrics": _metrics(name, asked),
        "rows": [_details(name, source, row, found, shared, budget) for row, found in asked],
    }


def _shared_notes(told: Sequence[Sequence[str]]) -> list[str]:
    """What every answer says; the rest is said where the answer is shown."""
    return [note for note in (told[0] if told else []) if all(note in other for other in told)]


def _of_row(name: str, source: Source, row: Row) -> list[StoredAnswer]:
    """The analysis' answers about a row's cells."""
    return [answer for cell in row.done for answer in source.answers.get(cell.key, ()) if answer.name == name]


def _settings(asked: Iterator[list[StoredAnswer]]) -> str:
    """The settings that the answers share, or that they differ."""
    texts = {_written(answer.settings) for found in asked for answer in found}
    return texts.pop() if len(texts) == 1 else "the cells were asked under different settings; see their files"


def _written(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in settings.items() if value not in ("", {}, []))


def _metrics(name: str, asked: Sequence[tuple[Row, list[StoredAnswer]]]) -> list[Grid]:
    """A table a condition: a row a column of the analysis, a column a model, with mean and interval."""
    under: dict[str, list[tuple[Row, list[StoredAnswer]]]] = {}
    for row, found in asked:
        under.setdefault(row.condition.name, []).append((row, found))
    return [_metrics_under(name, condition, mine) for condition, mine in under.items()]


def _metrics_under(name: str, condition: str, asked: Sequence[tuple[Row, list[StoredAnswer]]]) -> Grid:
    columns = dict.fromkeys(column for _, found in asked for answer in found for column in answer.columns)
    body = [[_plain(column, name), *(_with_interval(row, column) for row, _ in asked)] for column in columns]
    caption = f"{condition}: mean over cells, 95 % interval"
    return grid(f"analysis-{name}-{condition}", caption, ["metric", *(row.model for row, _ in asked)], body)


def _with_interval(row: Row, column: str) -> Entry | str:
    found = row.metric(column)
    if found is None:
        return "–"
    low, high = (found.low, found.high) if found.low == found.low else (None, None)
    return _bounded(found.mean, low, high)


def _bounded(value: float | None, low: float | None, high: float | None) -> Entry:
    bounds = "" if low is None or high is None else f"[{_text(low)}, {_text(high)}]"
    return Entry(_text(value), under=bounds)


def _plain(column: str, name: str) -> str:
    return column.removeprefix(f"{name}_").replace("_", " ")


def _details(
    name: str, source: Source, row: Row, found: Sequence[StoredAnswer], shared: Sequence[str], budget: _Budget
) -> dict[str, Any]:
    """The notes, tables and pictures about the first cell of a row; the others' lie in their files."""
    first = next(cell for cell in row.done if found[0] in source.answers.get(cell.key, ()))
    folder = first.folder / ANSWERS
    of = f"seed {first.spec['seed']}" + (f", one of {len(found)} cells" if len(found) > 1 else "")
    return {
        "title": f"{row.model} · {row.condition.name} ({of})",
        "notes": [note for note in found[0].notes if note not in shared],
        "tables": [_table(name, title, rows, budget) for title, rows in found[0].tables.items() if rows],
        "pictures": [_picture(folder / path, shown, budget) for shown, path in _drawn(found[0]).items()],
        "file": f"cells/{first.key}/{ANSWERS}/{name}.json",
    }


def _table(name: str, title: str, rows: Sequence[Mapping[str, Any]], budget: _Budget) -> Grid:
    fields = dict.fromkeys(field for row in rows for field in row)
    bounded = [field for field in fields if {f"{field}_low", f"{field}_high"} <= fields.keys()]
    bounds = {f"{field}_{end}" for field in bounded for end in ("low", "high")}
    head = [field for field in fields if field not in bounds]
    shown = budget.rows(min(len(rows), MOST_ROWS), len(head))
    body = [[_entry(row, field, field in bounded) for field in head] for row in rows[:shown]]
    words = [field for field in head if any(isinstance(row.get(field), str) for row in rows)]
    aligned = "".join("l" if field in words else "r" for field in head)
    notes = [] if len(rows) <= shown else [f"the first {shown} of {len(rows):,} rows"]
    return grid(f"{name}-{title}", title, [field.replace("_", " ") for field in head], body, aligned, notes)


def _entry(row: Mapping[str, Any], field: str, bounded: bool) -> Entry | str:
    """A row's value, with its interval below where the row has one."""
    if not bounded:
        return _text(row.get(field))
    return _bounded(row.get(field), row.get(f"{field}_low"), row.get(f"{field}_high"))


def _picture(path: Path, shown: str, budget: _Budget) -> dict[str, str]:
    """A picture as a `data:` address; "" and the reason where it is not shown."""
    if not path.is_file():
        return {"caption": f"{shown}: {path.name} is missing", "address": ""}
    if not budget.takes(path.stat().st_size):
        return {"caption": f"{shown}: too large for this page, see {path.name} beside the answer", "address": ""}
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {"caption": shown, "address": f"data:{_TYPES[path.suffix]};base64,{encoded}"}


def _text(value: Any) -> str:
    """A plain value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if value == value else "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(each) for each in value)
    return str(value)
