"""What a sweep looks for: columns of a result, each with its better direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.core.cellspec import CENTRALIZED, LOCAL_ONLY
from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.measure.clients import VAL_CLIENT_COLUMNS, VAL_LOCAL_MODEL_COLUMNS
from bench.measure.extra import METRICS
from bench.measure.quality import quality

Direction = Literal["max", "min"]
COST = ("params_m", "macs_m", "flops_m", "activations_m")
TIMES = ("train_batch_ms", "train_batch_ms_p95", "infer_batch_ms", "infer_batch_ms_p95", "peak_memory_mb", "energy_j")
_FITTED = ("train_images_per_s", "seconds")
_CENTRALIZED = ("best_epoch", "epochs_run")
_FEDERATED = (
    "rounds", "best_round", "up_mb", "down_mb", "seconds_compute", "seconds_communication", *VAL_CLIENT_COLUMNS,
    "epsilon",
)  # fmt: skip
_LOCAL = ("clients", "median_client", *VAL_LOCAL_MODEL_COLUMNS)


@dataclass(frozen=True)
class Objective:
    """A column and whether more or less of it is better."""

    column: str
    direction: Direction

    @property
    def watched(self) -> str:
        """The figure of an epoch or round that tells early how a trial goes."""
        return "val_accuracy" if self.direction == "max" else "val_loss"

    def __str__(self) -> str:
        return f"{self.column}:{self.direction}"


def parse_objectives(texts: Sequence[str], classes: Sequence[str], regime: str) -> list[Objective]:
    """Read `COLUMN:max` and `COLUMN:min`.

    Raises:
        UserError: a missing or unknown direction, an unknown column, or a column named twice.
    """
    known = columns(classes, regime)
    found = [_parsed(text, known) for text in texts]
    if len({one.column for one in found}) < len(found):
        raise UserError(f"--objective names a column twice: {', '.join(texts)}")
    return found


def columns(classes: Sequence[str], regime: str) -> list[str]:
    """Every column that a trial of this regime has."""
    own = {CENTRALIZED: _CENTRALIZED, LOCAL_ONLY: _LOCAL}.get(regime, _FEDERATED)
    return [*judged(classes), *COST, *TIMES, *_FITTED, *own]


def judged(classes: Sequence[str]) -> list[str]:
    """The columns that come from predictions on the validation part."""
    names = list(quality(np.arange(len(classes)), np.eye(len(classes)), classes))
    return [*names, *METRICS.names()]


def _parsed(text: str, known: list[str]) -> Objective:
    column, _, direction = text.rpartition(":")
    if direction not in ("max", "min"):
        raise UserError(f"--objective takes COLUMN:max or COLUMN:min, not {text!r}; for example roc_auc:max")
    if column not in known:
        raise UserError(f"--objective {text}: a trial has no column {column!r}; {near_matches(column, known)}")
    return Objective(column, "max" if direction == "max" else "min")


def values_of(objectives: Sequence[Objective], found: Mapping[str, float | None]) -> list[float]:
    """A trial's values.

    Raises:
        UserError: naming a column that is not defined for it.
    """
    missing = [one.column for one in objectives if found.get(one.column) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not defined on this trial's validation part or device")
    return [float(found[one.column] or 0.0) for one in objectives]
