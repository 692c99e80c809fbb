"""How the images of a federated cell were dealt to clients: class by client, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.store.cells import StoredCell
from bench.store.layout import PARTITION
from reports.html.svg import picture, text
from reports.tables.grid import Row
from reports.tables.markup import Grid, grid

MOST_CLIENTS = 40
COLOURS = 8
LEFT, WIDTH, BAR, STEP = 90, 420, 12, 18


class _Stored(TypedDict):
    partition: str
    clients: list[str]
    train: list[list[int]]
    val: list[list[int]]


@dataclass(frozen=True)
class Dealt:
    """One way in which a dataset's training images were dealt.

    Attributes:
        counts: training images by client and class.
    """

    title: str
    classes: tuple[str, ...]
    clients: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def caption(self) -> str:
        """Which images, and of how many clients they are shown."""
        shown = min(len(self.clients), MOST_CLIENTS)
        more = f", the first {shown} of {len(self.clients)} clients" if shown < len(self.clients) else ""
        return f"{self.title}: training images by client and class{more}"

    @property
    def table(self) -> Grid:
        """Class by client."""
        body = [[name, *map(str, row), str(sum(row))] for name, row in self._shown()]
        return grid(
            "partition", self.caption, ["Client", *self.classes, "all"], body, "l" + "r" * (len(self.classes) + 1)
        )

    @property
    def drawn(self) -> str:
        """A stacked bar a client."""
        largest = max(sum(row) for row in self.counts) or 1
        parts = []
        for place, (name, row) in enumerate(self._shown()):
            parts += [text(LEFT - 6, place * STEP + BAR, name, "end"), *self._bar(row, place * STEP + 2, largest)]
        return picture(parts, self.caption, WIDTH, STEP * min(len(self.clients), MOST_CLIENTS) + 4)

    def _shown(self) -> list[tuple[str, tuple[int, ...]]]:
        return list(zip(self.clients, self.counts, strict=True))[:MOST_CLIENTS]

    def _bar(self, row: Sequence[int], top: int, largest: int) -> list[str]:
        parts, start = [], float(LEFT)
        for number, (name, count) in enumerate(zip(self.classes, row, strict=True)):
            width = count / largest * (WIDTH - LEFT - 4)
            about = f"<title>{escape(name)}: {count}</title>"
            fill = f"var(--c{number % COLOURS})"
            parts.append(
                f'<rect x="{start:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{fill}">{about}</rect>'
            )
            start += width
        return parts


def partitions(rows: Sequence[Row]) -> list[Dealt]:
    """Every different way in which the cells of these rows dealt their images; a damaged file counts as absent."""
    found = (_read(cell) for row in rows for cell in row.cells)
    return list(dict.fromkeys(dealt for dealt in found if dealt is not None))


def _read(cell: StoredCell) -> Dealt | None:
    path = cell.folder / PARTITION
    if cell.result is None or not path.is_file():
        return None
    try:
        stored = read_json(path, _Stored, "run its cell again")
    except UserError:
        return None
    counts, clients, kind = tuple(map(tuple, stored["train"])), tuple(stored["clients"]), stored["partition"]
    classes = tuple(str(name) for name in cell.result["data"]["classes"])
    if len(counts) != len(clients) or any(len(row) != len(classes) for row in counts):
        return None
    spec = cell.spec
    return Dealt(f"{spec['dataset']} · {spec['split']} · {kind} · seed {spec['seed']}", classes, clients, counts)
