"""Differential privacy on the trainable vector: clipping, Gaussian noise, and the epsilon that they buy.

The unit of privacy is a client: all of a site's images together. Counts and metrics are not protected by it. Which two
federations are neighbours (the adjacency) depends on who adds the noise, see `settings.ADJACENCY`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.registry import import_extra

Vector = NDArray[np.float32]
Adjacency = Literal["add or remove one client", "replace one client"]


def clip(model: Vector, known: Vector, norm: float) -> Vector:
    """Scale the update model - known [P] to at most `norm` (Euclidean); a short enough one keeps its exact bits."""
    update = model.astype(np.float64) - known
    length = float(np.linalg.norm(update))
    if length <= norm:
        return model
    return (known + update * (norm / length)).astype(np.float32)


def noisy(model: Vector, deviation: float, random: np.random.Generator) -> Vector:
    """Add independent Gaussian noise; a deviation of 0 keeps the exact bits.

    Args:
        model: [P].
        deviation: of the noise, per number.
        random: the noise's stream.
    """
    if deviation == 0:
        return model
    return (model + random.normal(0.0, deviation, len(model))).astype(np.float32)


def noise_stream(seed: int | None) -> np.random.Generator:
    """The noise's stream: from a seed in a simulation, from the operating system's entropy (None) in a deployment."""
    return np.random.default_rng(seed)


@lru_cache(maxsize=256)
def epsilon(
    noise_multiplier: float,
    sampling: float,
    rounds: int,
    delta: float,
    adjacency: Adjacency = "add or remove one client",
) -> float:
    """The epsilon at `delta` of `rounds` Gaussian releases, each on a Poisson sample (dp-accounting's PLD accountant).

    Args:
        noise_multiplier: noise deviation over the largest norm of a client's clipped (and weighted) contribution; 0
            gives infinity.
        sampling: the chance that a client is asked in a round, in secret; 1: always, or not in secret.
        adjacency: adding or removing a client moves a sum by at most that norm, replacing one by twice as much.
    """
    if rounds == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    library = accounting()
    relations = library.NeighboringRelation
    relation = relations.REPLACE_ONE if adjacency == "replace one client" else relations.ADD_OR_REMOVE_ONE
    event = library.GaussianDpEvent(noise_multiplier)
    if sampling < 1:
        event = library.PoissonSampledDpEvent(sampling, event)
    accountant = library.pld.PLDAccountant(relation).compose(library.SelfComposedDpEvent(event, rounds))
    return float(accountant.get_epsilon(delta))


def accounting() -> ModuleType:
    """The library that composes epsilons, the extra `privacy`. Raises UserError where it is not installed."""
    import_extra("dp_accounting.pld", "privacy", "differential privacy")
    return import_extra("dp_accounting", "privacy", "differential privacy")
