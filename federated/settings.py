"""From a protocol to what the rounds, the clients and the accountant are told; the same in a simulation and outside."""

from __future__ import annotations

import numpy as np

from bench.core.config import Federation, Protocol
from federated import privacy
from federated.aggregate import CentralPrivacy
from federated.local import Work
from federated.rounds import Course
from federated.strategies import Recipe, batch_norm_policy


def work_of(federation: Federation, chosen: Recipe, seed: int) -> Work:
    """What every client is asked, but for the round's number."""
    local_privacy = federation.privacy == "local"
    norm = np.inf if federation.clip_norm is None else federation.clip_norm
    return Work(
        round=0,
        seed=seed,
        method=chosen.method,
        svrg_clip=np.inf if federation.svrg_clip is None else federation.svrg_clip,
        learning_rate=federation.local_learning_rate,
        epochs=federation.local_epochs,
        steps=federation.local_steps,
        scaffold=chosen.scaffold,
        batch_norm=batch_norm_policy(chosen, federation),
        straggler_rate=federation.straggler_rate,
        compression=federation.compression,
        compression_ratio=federation.compression_ratio,
        clip_norm=norm if local_privacy else np.inf,
        noise_multiplier=federation.noise_multiplier if local_privacy else 0.0,
    )


def course_of(
    protocol: Protocol, *, parallel: bool = False, timeout: float = 3600.0, system_noise: bool = False
) -> Course:
    """How long, and with whom."""
    federation = protocol.federated
    return Course(
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
    """The server's clipping and noise, where it is asked for."""
    if federation.privacy != "central":
        return None
    norm = np.inf if federation.clip_norm is None else federation.clip_norm
    return CentralPrivacy(norm, federation.noise_multiplier, total * federation.participation, largest)


def spent(federation: Federation, rounds: int) -> float:
    """Epsilon of a client after some rounds; sampling adds nothing to local noise, which the server sees arrive."""
    sampling = federation.participation if federation.privacy == "central" else 1.0
    return privacy.epsilon(federation.noise_multiplier, sampling, rounds, federation.delta)
