"""The registry of federated algorithms: each is a regime of its name."""

from __future__ import annotations

from bench.core.config import Federation
from bench.core.errors import UserError
from bench.core.registry import Registry
from federated.algorithms.adaptive.fedadagrad import FedAdagrad
from federated.algorithms.adaptive.fedadam import FedAdam
from federated.algorithms.adaptive.fedavgm import FedAvgM
from federated.algorithms.adaptive.fedexp import FedExP
from federated.algorithms.adaptive.fedyogi import FedYogi
from federated.algorithms.averaging.fedavg import FedAvg
from federated.algorithms.averaging.fedavg_cosine import FedAvgCosine
from federated.algorithms.averaging.fedavg_svrg import FedAvgSVRG
from federated.algorithms.averaging.feddyn import FedDyn
from federated.algorithms.averaging.fedlc import FedLC
from federated.algorithms.averaging.fednova import FedNova
from federated.algorithms.averaging.fedprox import FedProx
from federated.algorithms.averaging.moon import Moon
from federated.algorithms.averaging.scaffold import Scaffold
from federated.algorithms.base import Algorithm
from federated.algorithms.personal.ditto import Ditto
from federated.algorithms.personal.fedbn import FedBN
from federated.algorithms.personal.fedper import FedPer
from federated.algorithms.personal.fedrep import FedRep
from federated.algorithms.robust.fedmedian import FedMedian
from federated.algorithms.robust.fedtrimmedavg import FedTrimmedAvg
from federated.algorithms.robust.krum import Krum

ALGORITHMS: Registry[type[Algorithm]] = Registry(
    "federated algorithm", "bench.algorithms", listing="bench regimes", kind=Algorithm, classes=True
)
for _algorithm in (
    FedAvg, FedAvgSVRG, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad, Scaffold, FedNova, FedBN, FedMedian,
    FedTrimmedAvg, Krum, FedDyn, FedLC, Moon, FedAvgCosine, FedExP, FedPer, FedRep, Ditto,
):  # fmt: skip
    ALGORITHMS.register(_algorithm.name, _algorithm)


def algorithm_of(regime: str, federation: Federation) -> Algorithm:
    """A regime's algorithm, fresh, checked against the federation's other settings.

    Raises:
        UserError: an unknown regime, settings of its own out of bounds, or settings that contradict each other.
    """
    unknown = sorted(set(federation.options) - set(ALGORITHMS.names()))
    if unknown:
        ALGORITHMS.get(unknown[0])
    algorithm = ALGORITHMS.get(regime)(federation)
    if federation.privacy == "central" and not algorithm.takes_mean:
        raise UserError(f"privacy central adds noise to a mean, and {regime} takes none; choose fedavg or local")
    if federation.privacy != "none" and federation.noise_multiplier > 0:
        _check_private(algorithm)
    if federation.secure_aggregation:
        _check_secret(algorithm)
    return algorithm


def _check_secret(algorithm: Algorithm) -> None:
    if algorithm.sees_updates:
        raise UserError(f"{algorithm.name} must see each client's update, which secure_aggregation hides; choose one")
    if not algorithm.secret or algorithm.federation.compression != "none":
        raise UserError(
            "secure_aggregation adds whole vectors only: choose fedavg, fedavg-svrg, fedprox, fedbn or a server "
            "optimizer, and compression none"
        )


def _check_private(algorithm: Algorithm) -> None:
    federation = algorithm.federation
    if not algorithm.private:
        raise UserError(f"{algorithm.name} sends what no noise covers; with privacy choose fedavg, fedprox or fedbn")
    if federation.clip_norm is None:
        raise UserError("noise needs a bound on the updates: set federated.clip_norm, or noise_multiplier 0")
    if algorithm.batch_norm_policy() == "average":
        raise UserError(
            "running statistics would leave the clients without noise: with privacy set federated.batch_norm to "
            "personal, frozen or group"
        )
    if federation.privacy == "central" and federation.secure_aggregation:
        raise UserError("privacy central clips single updates, which secure_aggregation hides; choose privacy local")
