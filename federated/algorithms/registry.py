"""The federated regimes: a local method and a server's rule, Flower's own where it ships what the paper prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flwr.serverapp.strategy import FedAvg, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, Krum

from bench.core.config import Federation
from bench.core.errors import UserError
from federated.algorithms.adaptive import Adaptive, adagrad, adam, yogi

_ADAPTIVE_RATE = 0.01


@dataclass(frozen=True)
class Recipe:
    """A regime.

    Attributes:
        flower: the Flower strategy that gets the trainable vectors.
        options: its own arguments, from the federation's fields.
        method: local method, `sgd` or `svrg`.
        averages: whether the server takes a weighted mean first, which compressed, private and secret sums rest on.
        robust: whether the buffers are aggregated by the strategy's own rule, since a hostile client sends those too.
    """

    name: str
    flower: Callable[..., FedAvg] = FedAvg
    options: Callable[[Federation], dict[str, float]] = lambda federation: {}
    method: str = "sgd"
    batch_norm: str | None = None
    averages: bool = True
    robust: bool = False
    scaffold: bool = False
    normalized: bool = False

    def strategy(self, federation: Federation) -> FedAvg:
        """The strategy, which goes on with however few clients answer."""
        few = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
        return self.flower(**few, **self.options(federation))


def _momentum(federation: Federation) -> dict[str, float]:
    rate = federation.server_learning_rate or 1.0
    return {"server_learning_rate": rate, "server_momentum": federation.server_momentum}


def _adaptive(federation: Federation) -> dict[str, float]:
    return {"eta": federation.server_learning_rate or _ADAPTIVE_RATE, "tau": federation.server_tau}


def _with_moments(federation: Federation) -> dict[str, float]:
    moments = {"beta_1": federation.server_beta_1, "beta_2": federation.server_beta_2}
    return {**_adaptive(federation), **moments}


_RECIPES = (
    Recipe("fedavg"),
    Recipe("fedavg-svrg", method="svrg"),
    Recipe("fedprox", FedProx, lambda federation: {"proximal_mu": federation.proximal_mu}),
    Recipe("fedavgm", FedAvgM, _momentum),
    Recipe("fedadam", partial(Adaptive, adam), _with_moments),
    Recipe("fedyogi", partial(Adaptive, yogi), _with_moments),
    Recipe("fedadagrad", partial(Adaptive, adagrad), _adaptive),
    Recipe("scaffold", scaffold=True),
    Recipe("fednova", normalized=True),
    Recipe("fedbn", batch_norm="local"),
    Recipe("fedmedian", FedMedian, averages=False, robust=True),
    Recipe(
        "fedtrimmedavg", FedTrimmedAvg, lambda federation: {"beta": federation.trimmed}, averages=False, robust=True
    ),
    Recipe("krum", Krum, lambda federation: {"num_malicious_nodes": federation.malicious}, averages=False, robust=True),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def recipe(regime: str, federation: Federation) -> Recipe:
    """The recipe of a regime, checked against the federation's other fields.

    Raises:
        UserError: an unknown regime, or fields that contradict each other.
    """
    if regime not in RECIPES:
        raise UserError(f"no federated regime is called {regime!r}; there are {', '.join(RECIPES)}")
    chosen = RECIPES[regime]
    _check_averages(chosen, federation)
    if federation.privacy != "none" and federation.noise_multiplier > 0:
        _check_private(chosen, federation)
    if federation.secure_aggregation and (chosen.scaffold or chosen.normalized or federation.compression != "none"):
        raise UserError(
            "secure_aggregation adds whole vectors only: choose fedavg, fedavg-svrg, fedprox, fedbn or a server "
            "optimizer, and compression none"
        )
    return chosen


def batch_norm_policy(chosen: Recipe, federation: Federation) -> str:
    """What happens to BatchNorm: the regime's own policy (fedbn) before the configured one."""
    return chosen.batch_norm or federation.batch_norm


def _check_averages(chosen: Recipe, federation: Federation) -> None:
    if chosen.averages:
        return
    if federation.secure_aggregation:
        raise UserError(f"{chosen.name} must see each client's update, which secure_aggregation hides; choose one")
    if federation.privacy == "central":
        raise UserError(f"privacy central adds noise to a mean, and {chosen.name} takes none; choose fedavg or local")


def _check_private(chosen: Recipe, federation: Federation) -> None:
    if chosen.scaffold or chosen.normalized:
        raise UserError(f"{chosen.name} sends what no noise covers; with privacy choose fedavg, fedprox or fedbn")
    if federation.clip_norm is None:
        raise UserError("noise needs a bound on the updates: set federated.clip_norm, or noise_multiplier 0")
    if batch_norm_policy(chosen, federation) == "average":
        raise UserError(
            "running statistics would leave the clients without noise: with privacy set federated.batch_norm to "
            "local, frozen or group"
        )
    if federation.privacy == "central" and federation.secure_aggregation:
        raise UserError("privacy central clips single updates, which secure_aggregation hides; choose privacy local")
