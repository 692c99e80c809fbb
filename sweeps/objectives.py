"""What a sweep looks for: columns of a result, each with its better direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.cellspec import CENTRALIZED, LOCAL_ONLY
from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.measure.columns import QUALITY, Family, column, names_of

# Measured on request, not by the fit itself.
TIMES = tuple(name for name in names_of("time") if name not in ("train_images_per_s", "seconds"))
Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Objective:
    """A column and whether more or less of it is better."""

    column: str
    direction: Direction

    @property
    def watched(self) -> str:
        """The metric of an epoch or round that tells early how a trial goes."""
        return "val_accuracy" if self.direction == "max" else "val_loss"

    def __str__(self) -> str:
        return f"{self.column}:{self.direction}"


def parse_objectives(texts: Sequence[str], classes: Sequence[str], regime: str) -> list[Objective]:
    """Read `COLUMN:max` and `COLUMN:min`.

    Args:
        texts: what the user wrote.
        classes: of the dataset, whose recalls are columns too.
        regime: some columns are federated ones.

    Raises:
        UserError: a missing or unknown direction, an unknown column, or a column named twice.
    """
    known = columns(classes, regime)
    found = [_parsed(text, known) for text in texts]
    if len({one.column for one in found}) < len(found):
        raise UserError(f"--objective names a column twice: {', '.join(texts)}")
    return found


def columns(classes: Sequence[str], regime: str) -> list[str]:
    """Every column that a trial of this regime has: none is of the test set."""
    own: Family = {CENTRALIZED: "fit", LOCAL_ONLY: "local-only"}.get(regime, "federated")  # type: ignore[assignment]
    of_regime = [name for name in names_of(own) if column(name).part != "test"]
    return [*judged(classes), *names_of("cost", "time"), *of_regime]


def judged(classes: Sequence[str]) -> list[str]:
    """The columns that come from predictions on the validation part."""
    return [*names_of(*QUALITY), *(f"recall_{name}" for name in classes)]


def _parsed(text: str, known: list[str]) -> Objective:
    name, _, direction = text.rpartition(":")
    if direction not in ("max", "min"):
        raise UserError(f"--objective takes COLUMN:max or COLUMN:min, not {text!r}; for example roc_auc:max")
    if name not in known:
        raise UserError(f"--objective {text}: a trial has no column {name!r}; {near_matches(name, known)}")
    return Objective(name, "max" if direction == "max" else "min")


def values_of(objectives: Sequence[Objective], found: Mapping[str, float | None]) -> list[float]:
    """A trial's values.

    Raises:
        UserError: naming a column that is not defined for it.
    """
    missing = [one.column for one in objectives if found.get(one.column) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not defined on this trial's validation part or device")
    return [float(found[one.column] or 0.0) for one in objectives]
