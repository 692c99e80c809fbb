"""How the images of a federated cell were dealt to clients: class by client, as a table and for the page's script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict

from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.store.cells import StoredCell
from bench.store.layout import PARTITION
from reports.tables.grid import Row
from reports.tables.markup import Grid, grid

MOST_CLIENTS = 40


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
    def entry(self) -> dict[str, Any]:
        """What the page draws: a stacked bar a client."""
        return {"caption": self.caption, "classes": self.classes, "rows": self._shown()}

    def _shown(self) -> list[tuple[str, tuple[int, ...]]]:
        return list(zip(self.clients, self.counts, strict=True))[:MOST_CLIENTS]


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
