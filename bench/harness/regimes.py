"""The registry of regimes: how a model is trained. The fitting code is imported when a cell needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.core.cellspec import LOCAL_ONLY
from bench.core.registry import Registry, imported
from federated.algorithms.registry import ALGORITHMS


@dataclass(frozen=True)
class RegimeSpec:
    """A regime.

    Attributes:
        fit: a function of a `FitContext` (models/recipes/context.py) that returns a `FitOutcome`, or its name as
            "module:function", so that nothing heavy is loaded before a cell needs it.
    """

    name: str
    summary: str
    fit: Callable[[Any], Any] | str

    def load(self) -> Callable[[Any], Any]:
        """The fitting function."""
        return imported(self.fit)


REGIMES: Registry[RegimeSpec] = Registry("regime", "bench.regimes", listing="bench regimes", kind=RegimeSpec)


def _register(name: str, summary: str, fit: str) -> None:
    REGIMES.register(name, RegimeSpec(name, summary, fit))


_register("centralized", "all training data in one place", "models.recipes.registry:fit")
_register(
    "twin",
    "all data in one place, with the clients' optimizer and number of images seen",
    "federated.simulation.fit:twin",
)
_register(LOCAL_ONLY, "each client trains alone; the median client answers", "federated.simulation.local_only:fit")
REGIMES.rename("local", LOCAL_ONLY)
REGIMES.include(ALGORITHMS, lambda name, found: RegimeSpec(name, found.summary, "federated.simulation.fit:fit"))
