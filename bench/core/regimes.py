"""The registry of regimes: how a model is trained. The fitting code is imported when a cell needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.core.registry import Registry


@dataclass(frozen=True)
class RegimeSpec:
    """A regime.

    Attributes:
        fit: "module:function", called with a `models.training.FitContext`, returning a `FitOutcome`.
    """

    name: str
    summary: str
    fit: str

    def load(self) -> Callable[[Any], Any]:
        """Import and return the fitting function."""
        module, _, function = self.fit.partition(":")
        fit: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
        return fit


REGIMES: Registry[RegimeSpec] = Registry("regime", "bench.regimes", listing="bench regimes")


def _register(name: str, summary: str, fit: str) -> None:
    REGIMES.register(name, RegimeSpec(name, summary, fit))


_register("centralized", "all training data in one place", "models.training:fit")
