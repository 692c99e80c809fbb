"""Errors by corruption, held against a baseline's (Hendrycks and Dietterich 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analyses.corruptions.common import Corruption
from bench.analyses.registry import Estimate
from bench.analyses.support.averages import columns_of, mean, plain
from bench.analyses.support.intervals import ResampledSettings, estimates
from bench.core.errors import UserError

Floats = NDArray[np.float64]
Row = dict[str, Any]


def check_baseline(baseline: Mapping[str, float], functions: Mapping[str, Corruption]) -> None:
    """Raises UserError for a baseline that is there but incomplete, or whose errors cannot be divided by."""
    if not baseline:
        return
    if missing := [name for name in ("clean", *functions) if name not in baseline]:
        raise UserError(f"the baseline lacks the error of {missing[0]!r}; it needs clean and every corruption")
    if zero := [name for name in functions if not baseline[name] > 0]:
        raise UserError(f"the baseline's error of {zero[0]!r} is {baseline[zero[0]]}; one divides by it")


@dataclass(frozen=True)
class Errors:
    """Errors by corruption, and what Hendrycks and Dietterich (2019) make of them.

    Attributes:
        names: of the C corruptions.
        corrupted: the share of severities at which each image is classified wrongly [C, N].
        clean: whether it is without corruption [N].
        groups: the patient or lesion of each image [N].
    """

    names: tuple[str, ...]
    corrupted: Floats
    clean: Floats
    groups: NDArray[np.str_]
    settings: ResampledSettings

    def columns(self, baseline: Mapping[str, float]) -> dict[str, Estimate]:
        """The columns of the whole set; a ratio to an error of 0 is None."""

        def statistics(weights: Floats) -> dict[str, Floats]:
            return {f"robustness_{name}": values for name, values in self._under(weights, baseline).items()}

        return estimates(statistics, self.groups, self.settings)

    def _under(self, weights: Floats, baseline: Mapping[str, float]) -> dict[str, Floats]:
        """Every metric of the whole set under image weights [B, N]."""
        totals = weights.sum(1, keepdims=True)
        errors, clean = weights @ self.corrupted.T / totals, weights @ self.clean / totals[:, 0]
        accuracy = 1 - errors.mean(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "accuracy": accuracy,
                "drop": 1 - clean - accuracy,
                "relative_drop": 1 - accuracy / (1 - clean),
                "mce": _ratios(errors, clean, self.names, baseline).mean(1),
            }
            if baseline:
                rises = np.array([baseline[name] - baseline["clean"] for name in self.names])
                found["relative_mce"] = ((errors - clean[:, None]) / rises).mean(1)
        return found

    def rows(self, baseline: Mapping[str, float]) -> list[Row]:
        """A row a corruption: its mean error over severities, and its ratio to the baseline's."""
        own = mean(self.clean, self.groups, self.settings)
        rows: list[Row] = [{"corruption": "clean", **columns_of("error", own), "ce": None}]
        clean = self.clean.mean(keepdims=True)
        for number, name in enumerate(self.names):
            error = self.corrupted[number].mean(keepdims=True)[None]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = float(_ratios(error, clean, (name,), baseline)[0, 0])
            found = mean(self.corrupted[number], self.groups, self.settings)
            rows.append({"corruption": name, **columns_of("error", found), "ce": plain(ratio)})
        return rows


def _ratios(errors: Floats, clean: Floats, names: tuple[str, ...], baseline: Mapping[str, float]) -> Floats:
    """Errors [B, C] over the baseline's, or over the cell's own clean error [B]."""
    if not baseline:
        own: Floats = errors / clean[:, None]
        return own
    given: Floats = errors / np.array([baseline[name] for name in names])
    return given
