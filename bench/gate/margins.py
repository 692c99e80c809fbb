"""How much of each metric may be lost, from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.core.schema import read_toml
from bench.measure.columns import QUALITY, names_of


@dataclass(frozen=True)
class Margins:
    """The largest loss that still counts as held.

    Attributes:
        quality: by column, in stored units (0.01 is one point of accuracy).
        time: as a share of the baseline's median (0.1 is ten percent).
    """

    quality: dict[str, float] = field(default_factory=lambda: {"accuracy": 0.01, "roc_auc": 0.01})
    time: float = 0.1


def load_margins(path: Path | None) -> Margins:
    """Read margins; the defaults without a file.

        [quality]
        accuracy = 0.01
        balanced_accuracy = 0.02

        [time]
        share = 0.1

    Raises:
        UserError: unreadable, an unknown column, or a margin below 0.
    """
    if path is None:
        return Margins()
    values = _read(path)
    known = names_of(*QUALITY)
    quality = values.get("quality", Margins().quality)
    for name, margin in quality.items():
        if name not in known:
            raise UserError(f"{path}: no quality column is called {name!r}; {near_matches(name, known)}")
        _check(path, name, margin)
    time = values.get("time", {}).get("share", Margins().time)
    _check(path, "time.share", time)
    return Margins({name: float(margin) for name, margin in quality.items()}, float(time))


def _read(path: Path) -> dict[str, dict[str, float]]:
    values = read_toml(path, dict[str, Any], "margins stand under [quality] and [time]")
    unknown = sorted(set(values) - {"quality", "time"})
    if unknown or not all(isinstance(part, dict) for part in values.values()):
        raise UserError(f"{path}: margins stand under [quality] and [time], not {', '.join(unknown) or 'plain values'}")
    return values


def _check(path: Path, name: str, margin: object) -> None:
    if not isinstance(margin, (int, float)) or isinstance(margin, bool) or not margin >= 0:
        raise UserError(f"{path}: the margin of {name} is a number of 0 or more, not {margin!r}")
