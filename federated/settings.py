"""From a protocol to what the rounds, the clients and the accountant are told; the same in a simulation and outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.core.config import Federation, Protocol
from federated.algorithms.base import Algorithm
from federated.client.training import Work
from federated.privacy import mechanism as privacy
from federated.server.aggregate import CentralPrivacy
from federated.server.losses import asked_in
from federated.server.rounds import RoundSettings


def work_of(algorithm: Algorithm, seed: int) -> Work:
    """What every client is asked, but for the round's number."""
    federation = algorithm.federation
    local_privacy = federation.privacy == "local"
    norm = np.inf if federation.clip_norm is None else federation.clip_norm
    return Work(
        round=0,
        seed=seed,
        algorithm=algorithm.name,
        settings=algorithm.travelling_settings(),
        learning_rate=federation.local_learning_rate,
        epochs=federation.local_epochs,
        steps=federation.local_steps,
        batch_norm=algorithm.batch_norm_policy(),
        straggler_rate=federation.straggler_rate,
        compression=federation.compression,
        compression_ratio=federation.compression_ratio,
        clip_norm=norm if local_privacy else np.inf,
        noise_multiplier=federation.noise_multiplier if local_privacy else 0.0,
    )


def round_settings_of(
    protocol: Protocol, *, parallel: bool = False, timeout: float = 3600.0, system_noise: bool = False
) -> RoundSettings:
    """How long, and with whom. Raises UserError for privacy whose epsilon could not be told at the end.

    Args:
        protocol: of the cell.
        parallel: whether clients answer at once.
        timeout: seconds to wait for replies.
        system_noise: whether draws and noise come from the system's entropy instead of the seed.
    """
    federation = protocol.federated
    if federation.privacy != "none":
        privacy.accounting()
    return RoundSettings(
        rounds=federation.rounds or protocol.epochs,
        patience=protocol.early_stopping_patience,
        participation=federation.participation,
        poisson=federation.privacy == "central" and federation.participation < 1,
        parallel=parallel,
        timeout=timeout,
        system_noise=system_noise,
        secure_range=federation.secure_range if federation.secure_aggregation else None,
    )


def central_privacy(federation: Federation, total: int, largest: int) -> CentralPrivacy | None:
    """The server's clipping and noise, where it is asked for.

    Args:
        federation: says whether and how.
        total: training images of all clients.
        largest: training images of the largest client.
    """
    if federation.privacy != "central":
        return None
    norm = np.inf if federation.clip_norm is None else federation.clip_norm
    return CentralPrivacy(norm, federation.noise_multiplier, total * federation.participation, largest)


WITHHELD = (
    "the clients' own layers stay with them, since no noise would cover them: the tested network has the layers that "
    "the first round began with, and what the clients' own networks can do is not in it"
)
"""What a reader must know of a tested network whose personal layers never left the clients."""

ADJACENCY: dict[str, privacy.Adjacency] = {
    # The server sums over whoever takes part; the denominator is a public number.
    "central": "add or remove one client",
    # A client's own release says that it is there, so what is hidden is which data it holds.
    "local": "replace one client",
}


def withholds(federation: Federation) -> bool:
    """Whether layers that stay with the clients stay there to the end: under privacy, no noise would cover them."""
    return federation.privacy != "none"


def releases_of(federation: Federation, history: Sequence[Mapping[str, Any]], begun: int | None = None) -> int:
    """How many releases the accountant composes.

    Under central noise every round is one. Under local noise a client releases where it is asked, which everybody sees,
    so that it is the rounds of the client that was asked most often; a lost reply counts, since it may have been sent.

    Args:
        federation: who adds the noise.
        history: the finished rounds' rows.
        begun: rounds that were begun where a killed server may have repeated some; whom those asked nobody knows.
    """
    repeated = 0 if begun is None else begun - len(history)
    if federation.privacy != "local":
        return len(history) + repeated
    asked = Counter(partition for row in history for partition in asked_in(row))
    return max(asked.values(), default=0) + repeated


def spent(federation: Federation, releases: int) -> float:
    """Epsilon of a client at the federation's delta after some releases (`releases_of`).

    Sampling gains nothing under local noise: who sends is seen.
    """
    sampling = federation.participation if federation.privacy == "central" else 1.0
    adjacency = ADJACENCY[federation.privacy]
    return privacy.epsilon(federation.noise_multiplier, sampling, releases, federation.delta, adjacency)


def privacy_statement(federation: Federation, *, simulated: bool) -> str:
    """What the epsilon of a row or a record holds for, in a sentence; "" without privacy."""
    if federation.privacy == "none":
        return ""
    sampled = federation.privacy == "central" and federation.participation < 1
    drawn = "noise and choice of clients" if sampled else "noise"
    origin = "the run's seed, in place of a secret draw" if simulated else "the operating system's entropy"
    chance = f", each client asked with chance {federation.participation:g} a round" if sampled else ""
    whose = "; epsilon of the client that was asked most often" if federation.privacy == "local" else ""
    return (
        f"{federation.privacy} differential privacy of a whole client ({ADJACENCY[federation.privacy]}), noise "
        f"multiplier {federation.noise_multiplier:g}{chance}{whose}; {drawn} from {origin}; counts and "
        "metrics are not covered"
    )


def privacy_record(
    federation: Federation, history: Sequence[Mapping[str, Any]], begun: int | None = None
) -> dict[str, Any] | None:
    """What a deployment writes down of the privacy that it spent; None without privacy.

    Args:
        federation: the settings.
        history: the finished rounds' rows.
        begun: rounds that were begun. One that a killed server began and then repeats has told twice.
    """
    if federation.privacy == "none":
        return None
    releases = releases_of(federation, history, begun)
    epsilon = spent(federation, releases)
    return {
        "epsilon": epsilon if np.isfinite(epsilon) else None,
        "delta": federation.delta,
        "adjacency": ADJACENCY[federation.privacy],
        "releases": releases,
        "statement": privacy_statement(federation, simulated=False),
    }
