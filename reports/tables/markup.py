"""One small table model, written as Markdown here, as LaTeX and HTML by others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """A table's cell: text, bold or not, and a faint line under it."""

    text: str
    bold: bool = False
    under: str = ""


@dataclass(frozen=True)
class Grid:
    """A drawn table.

    Attributes:
        label: for LaTeX's references and file names.
        aligned: "l" or "r" a column.
        notes: footnotes under it.
    """

    label: str
    caption: str
    head: tuple[str, ...]
    body: tuple[tuple[Entry, ...], ...]
    aligned: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def alignment(self) -> str:
        """One letter a column: the first left, the rest right, unless said otherwise."""
        return self.aligned or "l" + "r" * (len(self.head) - 1)


def entry(value: Entry | str) -> Entry:
    """Text as an entry."""
    return value if isinstance(value, Entry) else Entry(value)


def grid(
    label: str,
    caption: str,
    head: Sequence[str],
    body: Sequence[Sequence[Entry | str]],
    aligned: str = "",
    notes: Sequence[str] = (),
) -> Grid:
    """A table from texts and entries.

    Args:
        label: a name for references, as LaTeX has them.
        caption: above the table.
        head: names of the columns.
        body: rows, each of the head's length.
        aligned: a letter a column, "l" or "r"; "": the first left, the others right.
        notes: sentences below the table.
    """
    rows = tuple(tuple(entry(value) for value in row) for row in body)
    return Grid(label, caption, tuple(head), rows, aligned, tuple(notes))


def markdown(table: Grid) -> str:
    """The table as GitHub Markdown."""
    rules = ["---:" if letter == "r" else ":---" for letter in table.alignment]
    lines = [f"**{_md(table.caption)}**", "", _md_row(table.head), f"| {' | '.join(rules)} |"]
    lines += [_md_row([_md_entry(cell) for cell in row], escaped=True) for row in table.body]
    lines += ["", *(f"- {_md(note)}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _md(text: str) -> str:
    escaped = re.sub(r"([\\`*<>|])", r"\\\1", text).replace("](", "]\\(").replace("\n", " ")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", escaped)


def _md_entry(cell: Entry) -> str:
    text = f"**{_md(cell.text)}**" if cell.bold and cell.text else _md(cell.text)
    return f"{text}<br>{_md(cell.under)}" if cell.under else text


def _md_row(cells: Sequence[str], escaped: bool = False) -> str:
    return f"| {' | '.join(cells if escaped else [_md(cell) for cell in cells])} |"
