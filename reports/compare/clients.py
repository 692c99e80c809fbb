"""Who gains by federating: every client's model against what it would have alone, from a twin, or by another regime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.measure.columns import QUALITY, names_of
from bench.measure.statistics.paired import Difference, holm
from bench.measure.statistics.pooled import Paired, difference
from bench.store.cells import StoredCell
from bench.store.layout import predictions_file
from bench.store.predictions import Predictions, paired, read_predictions
from reports.compare.federated import TWINS, unlike
from reports.compare.pairing import cell_place
from reports.load.source import load
from reports.tables.grid import Row, rows

AGAINST = ("local-only", "twin", "fedavg")
EVERYBODY = "all"


@dataclass(frozen=True)
class Gain:
    """A client's model by one regime against its model by another.

    Attributes:
        client: its name; "all" for every client's images together.
        own: whether the client has a model, or layers, of its own by this regime.
        images: test images over the seeds, each counted as often as it was tested.
        accuracies: of both on these images.
        difference: regime minus the other, on the same images.
        adjusted: its p value, Holm-adjusted over all gains of the listing.
    """

    row: Row
    other: Row
    client: str
    own: bool
    images: int
    accuracies: tuple[float, float]
    difference: Difference
    adjusted: float = float("nan")


def gains(table: Sequence[Row], metric: str = "accuracy", against: Sequence[str] = AGAINST) -> list[Gain]:
    """Every federated row against other regimes' rows under the same protocol, client by client.

    What is compared is the model that a client would use: its own where the regime leaves it one, else the shared one.

    Args:
        metric: a quality column.
        against: regimes; one of them is held against those before it in the list.
    """
    found: list[Gain] = []
    for row in table:
        regime = row.condition.regime
        if regime in TWINS:
            continue
        rank = list(against).index(regime) if regime in against else len(against)
        for other in (each for name in against[:rank] for each in table if each.condition.regime == name):
            if _comparable(row, other):
                found += _of_rows(row, other, metric)
    adjusted = holm([gain.difference.p for gain in found])
    return [replace(gain, adjusted=p) for gain, p in zip(found, adjusted, strict=True)]


def _comparable(row: Row, other: Row) -> bool:
    here, there = row.condition, other.condition
    same = (row.model, here.dataset, here.split) == (other.model, there.dataset, there.split)
    return same and bool(row.done and other.done) and not unlike(row, other)


def _of_rows(row: Row, other: Row, metric: str) -> list[Gain]:
    """The gains of one row: of each client, and of all together."""
    cells = {cell_place(cell): cell for cell in other.done}
    pairs = [(cell, cells[cell_place(cell)]) for cell in row.done if cell_place(cell) in cells]
    parts: dict[str, list[Paired]] = {}
    classes: tuple[str, ...] = ()
    for mine, theirs in pairs:
        used = _used(mine)
        classes = used.classes
        both = paired(used, _used(theirs))
        if both is None:
            continue
        owners = used.sites  # of a federated cell they are its clients
        for name in (EVERYBODY, *np.unique(owners).tolist()):
            here = np.ones(len(owners), bool) if name == EVERYBODY else owners == name
            parts.setdefault(name, []).append(_taken(both, here))
    own = any((cell.folder / predictions_file("own")).is_file() for cell, _ in pairs)
    return [
        Gain(
            row,
            other,
            name,
            own,
            sum(len(part.ids) for part in mine),
            _accuracies(mine),
            difference(metric, mine, classes),
        )
        for name, mine in sorted(parts.items(), key=lambda item: (item[0] != EVERYBODY, item[0]))
    ]


def _used(cell: StoredCell) -> Predictions:
    """What the client of each test image would use: its own model's predictions where there are any."""
    own = (cell.folder / predictions_file("own")).is_file()
    return read_predictions(cell, "own" if own else "test")


def _taken(both: Paired, here: Any) -> Paired:
    return Paired(both.ids[here], both.groups[here], both.labels[here], both.first[here], both.second[here])


def _accuracies(parts: Sequence[Paired]) -> tuple[float, float]:
    sides = ([each.first for each in parts], [each.second for each in parts])
    labels = np.concatenate([each.labels for each in parts])
    first, second = (float((np.concatenate(side).argmax(axis=1) == labels).mean()) for side in sides)
    return first, second


def gain_rows(folder: Path, metric: str = "accuracy", against: Sequence[str] = AGAINST) -> list[dict[str, Any]]:
    """A run's gains by client as plain values.

    Args:
        folder: the run's.
        metric: a quality column.
        against: the regimes that a federated one is held against.

    Returns:
        Rows with `client` ("all": every client's images), `of` ("own" or "shared" model), `images`, `accuracy` and
        `other_accuracy`, and of the metric `gain` with `low`, `high`, `p` and `p_holm`.

    Raises:
        UserError: no run there, an unknown column, or nothing to compare.
    """
    known = names_of(*QUALITY)
    if metric not in known:
        raise UserError(f"no quality column is called {metric!r}; {near_matches(metric, known)}")
    found = gains(rows(load(folder).cells), metric, against)
    if not found:
        raise UserError(
            f"{folder} has no federated cells beside {' or '.join(against)} under the same protocol; add one to the run"
        )
    return [_plain(gain) for gain in found]


def _plain(gain: Gain) -> dict[str, Any]:
    condition, step = gain.row.condition, gain.difference
    place = {"dataset": condition.dataset, "split": condition.split, "model": gain.row.model}
    place |= {"regime": condition.regime, "variant": condition.variant, "against": gain.other.condition.regime}
    values = {"gain": step.value, "low": step.low, "high": step.high, "p": step.p, "p_holm": gain.adjusted}
    return {
        **place,
        "client": gain.client,
        "of": "own" if gain.own else "shared",
        "images": gain.images,
        "accuracy": gain.accuracies[0],
        "other_accuracy": gain.accuracies[1],
        **{name: float(value) if np.isfinite(value) else None for name, value in values.items()},
    }
