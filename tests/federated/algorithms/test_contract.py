"""What every registered algorithm must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.config import Federation
from bench.core.errors import UserError
from bench.harness.regimes import REGIMES
from federated.algorithms.registry import ALGORITHMS, algorithm_of
from federated.client.app import client_app
from federated.server.checkpoint import Progress
from federated.simulation.cell import Simulation, drive
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from models.recipes.callbacks import Interrupted
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
EVERY = ALGORITHMS.names()
SETTINGS: dict[str, dict[str, Any]] = {"participation": 0.8, "local_epochs": 2, "partition": "quantity"}
# Under these settings an algorithm is FedAvg.
AS_FEDAVG: dict[str, dict[str, Any]] = {
    "fedprox": {"proximal_mu": 0.0},
    "fedavgm": {"server_momentum": 0.0},
    "fednova": {"local_steps": 3},
    "feddyn": {"options": {"feddyn": {"alpha": 0}}},
    "fedlc": {"options": {"fedlc": {"tau": 0}}},
    "moon": {"options": {"moon": {"mu": 0}}},
    "fedavg-cosine": {"options": {"fedavg-cosine": {"floor": 1}}},
    "fedexp": {"options": {"fedexp": {"epsilon": 1e9}}},
    "fedper": {"options": {"fedper": {"layers": 0}}},
    "fedrep": {"options": {"fedrep": {"layers": 0}}},
    "ditto": {},
    "fedbn": {"kind": "linear"},  # a network without BatchNorm
}
# These are FedAvg under no setting, and why.
NEVER_FEDAVG = {
    "fedavg": "it is FedAvg",
    "fedavg-svrg": "its gradients are others wherever a step's batch is not the whole",
    "scaffold": "in its first round alone: test_scaffold_begins_with_zero_variates_as_fedavg",
    **dict.fromkeys(("fedadam", "fedyogi", "fedadagrad"), "every number of the mean change has a step size of its own"),
    **dict.fromkeys(("fedmedian", "fedtrimmedavg", "krum"), "clients count alike, whatever their images"),
}


def test_every_algorithm_is_fedavg_where_its_settings_make_it_so() -> None:
    assert sorted([*AS_FEDAVG, *NEVER_FEDAVG]) == sorted(EVERY)


def trained(context: FitContext) -> Progress:
    simulation = Simulation.of(context)
    return drive(simulation, InProcessGrid(client_app(simulation.find), simulation.clients))


@pytest.mark.parametrize("name", EVERY)
def test_it_says_what_it_is(name: str) -> None:
    algorithm = ALGORITHMS.get(name)
    assert algorithm.name == name
    assert REGIMES.get(name).summary == algorithm.summary
    assert algorithm.__doc__ != algorithm.__mro__[1].__doc__
    assert set(algorithm.reads) <= set(Federation.model_fields)
    assert all(field.description and field.metadata for field in algorithm.Settings.model_fields.values())


@pytest.mark.parametrize("name", EVERY)
def test_a_client_makes_the_same_algorithm_from_what_travels(name: str) -> None:
    federation = Federation(proximal_mu=0.5, trimmed=0.1, server_tau=0.2, svrg_clip=None, options={"fedlc": {"tau": 3}})
    sent = algorithm_of(name, federation)
    received = algorithm_of(name, Federation(**sent.travelling_settings()))
    assert received.settings == sent.settings
    assert [getattr(received.federation, each) for each in sent.reads] == [
        getattr(federation, each) for each in sent.reads
    ]


@pytest.mark.parametrize(
    ("name", "fields"),
    [*((name, SETTINGS) for name in EVERY), ("fedavg-svrg", {"compression": "topk", "dropout_rate": 0.3})],
)
def test_a_stopped_fit_goes_on_to_the_same_bits(make_context: Make, name: str, fields: dict[str, Any]) -> None:
    whole, context = (make_context(name, images=90, **fields) for _ in range(2))
    expected = fit(whole)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Interrupted):
        fit(replace(context, should_stop=stop))
    torch.manual_seed(5)
    resumed = replace(context, network=type(context.network)("norm"))  # type: ignore[call-arg]
    outcome = fit(resumed)
    after, before = resumed.module.state_dict(), whole.module.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if "tracked" not in key)
    for row, other in zip(outcome.history, expected.history, strict=True):
        assert all(row[key] == other[key] for key in row if "seconds" not in key)


@pytest.mark.parametrize("name", list(AS_FEDAVG))
def test_with_these_settings_it_is_fedavg(make_context: Make, name: str) -> None:
    settings = AS_FEDAVG[name]
    ours, plain = trained(make_context(name, **settings)), trained(make_context("fedavg", **settings))
    np.testing.assert_array_equal(ours.model.weights, plain.model.weights)
    np.testing.assert_array_equal(ours.model.buffers, plain.model.buffers)


@pytest.mark.parametrize("name", [name for name in AS_FEDAVG if name not in ("fednova", "ditto", "fedexp", "fedbn")])
def test_with_others_it_is_not(make_context: Make, name: str) -> None:
    fields = {"local_epochs": 2, "partition": "dirichlet", "images": 120}
    ours, plain = trained(make_context(name, **fields)), trained(make_context("fedavg", **fields))
    assert len(ours.model.weights) != len(plain.model.weights) or not np.allclose(
        ours.model.weights, plain.model.weights, atol=1e-5
    )


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("what", ["privacy", "secure_aggregation"])
def test_protection_is_refused_where_it_would_protect_nothing(name: str, what: str) -> None:
    algorithm = ALGORITHMS.get(name)
    if what == "privacy":
        fields, holds = {"privacy": "local", "batch_norm": "frozen"}, algorithm.private
    else:
        fields, holds = {"secure_aggregation": True}, algorithm.secret and not algorithm.sees_updates
    federation = Federation(**fields)  # type: ignore[arg-type]
    if holds:
        assert algorithm_of(name, federation).name == name
    else:
        with pytest.raises(UserError, match=r"no noise covers|whole vectors only|must see each client"):
            algorithm_of(name, federation)
