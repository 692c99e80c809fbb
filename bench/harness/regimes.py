"""The registry of regimes: how a model is trained. The fitting code is imported when a cell needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.core.registry import Registry, imported


@dataclass(frozen=True)
class RegimeSpec:
    """A regime.

    Attributes:
        fit: a function of a `FitContext` (models/recipes/gradient.py) that returns a `FitOutcome`, or its name as
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
_register("local", "each client trains alone; the median client answers", "federated.simulation.local_only:fit")
for _name, _summary in {
    "fedavg": "weighted mean of the clients' models (the paper's algorithm 1 with SGD)",
    "fedavg-svrg": "the paper's algorithm 1 with SVRG at the clients",
    "fedprox": "FedAvg with a pull to the round's model",
    "fedavgm": "momentum at the server",
    "fedadam": "Adam at the server",
    "fedyogi": "Yogi at the server",
    "fedadagrad": "Adagrad at the server",
    "scaffold": "control variates against client drift",
    "fednova": "updates normalized by the clients' numbers of steps",
    "fedbn": "FedAvg; BatchNorm layers stay with the clients",
    "fedmedian": "coordinate-wise median, against hostile clients",
    "fedtrimmedavg": "coordinate-wise trimmed mean, against hostile clients",
    "krum": "the one model nearest to the others, against hostile clients",
}.items():
    _register(_name, _summary, "federated.simulation.fit:fit")
