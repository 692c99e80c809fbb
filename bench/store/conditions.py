"""What makes cells one condition: their protocol's fields and their data, compared by value and told in words.

Every table that averages cells, every twin and every baseline that a cell is held against is matched by these functions
alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.cellspec import CENTRALIZED
from bench.core.config import TWIN_FIELDS, Protocol
from bench.store.cells import StoredCell

Settings = dict[str, str]
_FEDERATED = "federated."
_NO_DATA = "unknown"


@functools.cache
def _defaults() -> dict[str, Any]:
    return Protocol().model_dump(mode="json")


def settings(spec: Mapping[str, Any]) -> Settings:
    """A cell's protocol as JSON texts by field; a centralized cell has no federated fields."""
    return protocol_settings(spec["protocol"], federated=spec["regime"] != CENTRALIZED)


def protocol_settings(protocol: Mapping[str, Any], federated: bool) -> Settings:
    """A stored protocol as JSON texts by field, with those of a federation, where it counts, as `federated.FIELD`.

    A field that the stored protocol does not name (it was written before the field was) stands at its default.
    """
    stored = {name: value for name, value in protocol.items() if name != "federated"}
    plain = {name: value for name, value in _defaults().items() if name != "federated"} | stored
    if federated:
        inner = {**_defaults()["federated"], **(protocol.get("federated") or {})}
        plain |= {f"{_FEDERATED}{name}": value for name, value in inner.items()}
    return {name: json.dumps(value, sort_keys=True) for name, value in plain.items()}


def differing(one: Settings, two: Settings, counts: Callable[[str], bool]) -> list[str]:
    """The fields that count and whose values differ; one that only one side names differs too.

    Args:
        one, two: settings by field.
        counts: whether a field of this name makes another experiment.
    """
    return [name for name in {**one, **two} if counts(name) and one.get(name) != two.get(name)]


def variants(cells: Sequence[StoredCell]) -> dict[str, str]:
    """By cell key: in what a run's cells differ beyond model, dataset, split, regime and seed; "" when in nothing.

    Two cells have one text only if their protocols are equal field by field, if their datasets have one fingerprint,
    and if they are not two cells of one seed.
    """
    found = {cell.key: settings(cell.spec) for cell in cells}
    protocols = _protocol_texts(found)
    data = _data_texts(cells, found)
    texts = {key: ", ".join(part for part in (protocols[key], data[key]) if part) for key in found}
    return _distinguished(cells, texts)


def _protocol_texts(found: Mapping[str, Settings]) -> dict[str, str]:
    values: dict[str, dict[str, None]] = {}
    for given in found.values():
        for name, value in given.items():
            values.setdefault(name, {})[value] = None
    words = {name: _words(list(known)) for name, known in values.items() if len(known) > 1}
    return {
        key: ", ".join(f"{name}={known[given[name]]}" for name, known in words.items() if name in given)
        for key, given in found.items()
    }


def _words(values: Sequence[str]) -> dict[str, str]:
    """A field's values as they are written in a label: of a file's path the file's name, if no other file has it."""
    plain = {value: _plain(value) for value in values}
    short = {value: Path(text).name if "/" in text else text for value, text in plain.items()}
    return short if len(set(short.values())) == len(values) else plain


def _plain(value: str) -> str:
    read = json.loads(value)
    return read if isinstance(read, str) else str(read)


def fingerprint(cell: StoredCell) -> str:
    """The fingerprint of the dataset that a finished cell was made on; "" where it is not known."""
    return str((cell.result or {}).get("data", {}).get("fingerprint") or "")


def _data_texts(cells: Sequence[StoredCell], found: Mapping[str, Settings]) -> dict[str, str]:
    """Which state of its dataset a cell was made on, where a run holds several: after an audit joined groups, say."""
    # Embedded datasets draw as many images as the protocol says: that is told by the protocol already.
    places = {cell.key: (cell.spec["dataset"], found[cell.key].get("synthetic_images")) for cell in cells}
    known: dict[Any, dict[str, None]] = {}
    for cell in cells:
        if fingerprint(cell):
            known.setdefault(places[cell.key], {})[fingerprint(cell)] = None
    several = {place for place, prints in known.items() if len(prints) > 1}
    return {
        cell.key: f"data={fingerprint(cell)[:8] or _NO_DATA}" if places[cell.key] in several else "" for cell in cells
    }


def _distinguished(cells: Sequence[StoredCell], texts: Mapping[str, str]) -> dict[str, str]:
    """Count cells of one seed whose keys differ for another reason: a model or a weight file that was changed."""
    counted: dict[tuple[Any, ...], int] = {}
    found = {}
    for cell in cells:
        spec, text = cell.spec, texts[cell.key]
        place = (*(spec[name] for name in ("model", "dataset", "split", "regime", "seed")), text)
        counted[place] = number = counted.get(place, 0) + 1
        again = f"model or weights changed ({number})" if number > 1 else ""
        found[cell.key] = ", ".join(part for part in (text, again) if part)
    return found


def twin_differences(cell: StoredCell, twin: StoredCell) -> list[str]:
    """In what a cell's centralized twin was made otherwise than the cell asks for; empty when they match.

    Of the federated fields, those count that the regime `twin` takes over; a plain centralized cell has none.

    Returns:
        a phrase a field: "epochs (5, the twin 3)".
    """
    one, two = settings(cell.spec), settings(twin.spec)
    found = [
        f"{name} ({_plain(one.get(name, 'null'))}, the twin {_plain(two.get(name, 'null'))})"
        for name in differing(one, two, lambda name: _counts_for_twin(name, one, two))
    ]
    prints = {fingerprint(each) for each in (cell, twin)} - {""}
    return [*found, "the dataset's images, labels or groups"] if len(prints) > 1 else found


def _counts_for_twin(name: str, one: Settings, two: Settings) -> bool:
    if not name.startswith(_FEDERATED):
        return True
    if name not in one or name not in two:
        return False
    field = name.removeprefix(_FEDERATED)
    return field in TWIN_FIELDS
