"""SecAgg+ gives FedAvg's mean, survives a lost client, and hides the updates from the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from flwr.app import Message, MessageType

from federated.client.app import client_app
from federated.simulation.cell import Simulation, drive
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire
from federated.transport.packing import Packing, pack
from models.recipes.context import FitContext

Make = Callable[..., FitContext]


def vector(context: FitContext) -> np.ndarray:
    packing = Packing(context.module)
    return np.concatenate([pack(packing.trainable), pack(packing.buffers)])


@pytest.mark.parametrize("regime", ["fedavg", "fedprox", "fedadam"])
def test_secure_aggregation_is_within_1e_4(make_context: Make, regime: str) -> None:
    plain, secret = make_context(regime, clients=4), make_context(regime, clients=4, secure_aggregation=True)
    fit(plain)
    outcome = fit(secret)
    assert np.abs(vector(plain) - vector(secret)).max() < 1e-4
    assert outcome.history[0]["cut"] == 0
    assert not any("SecAgg+ cut" in note for note in outcome.notes)


def test_a_lost_client_costs_its_update_only(make_context: Make) -> None:
    fields = {"clients": 4, "rounds": 4, "dropout_rate": 0.25}
    plain, secret = make_context("fedavg", **fields), make_context("fedavg", secure_aggregation=True, **fields)
    expected, outcome = fit(plain), fit(secret)
    answered = [row["clients_answered"] for row in outcome.history]
    assert answered == [row["clients_answered"] for row in expected.history]
    assert min(answered) < 4
    assert np.abs(vector(plain) - vector(secret)).max() < 1e-4


def test_secret_rounds_repeat_bit_for_bit(make_context: Make) -> None:
    a, b = (make_context("fedavg", clients=4, secure_aggregation=True) for _ in range(2))
    fit(a)
    fit(b)
    assert np.array_equal(vector(a), vector(b))


def test_a_range_that_is_too_small_is_told(make_context: Make) -> None:
    outcome = fit(make_context("fedavg", clients=4, secure_aggregation=True, secure_range=1e-3))
    assert any("raise federated.secure_range" in note for note in outcome.notes)


class Tapped(InProcessGrid):
    """Keeps what clients send."""

    def __init__(self, context: FitContext) -> None:
        simulation = Simulation.of(context)
        super().__init__(client_app(simulation.find), 4)
        self.replies: list[Message] = []
        drive(simulation, self)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        self.replies += [reply for reply in replies if reply.metadata.message_type == MessageType.TRAIN]
        return replies

    def masked(self) -> list[bytes]:
        records = [record for reply in self.replies for record in reply.content.config_records.values()]
        return [b"".join(record["masked_params"]) for record in records if "masked_params" in record]  # type: ignore[arg-type]


def test_no_single_update_is_on_the_wire(make_context: Make) -> None:
    context, again = (make_context("fedavg", clients=4, rounds=1, secure_aggregation=True) for _ in range(2))
    first, second = Tapped(context), Tapped(again)
    assert all(not wire.arrays_of(reply.content) for reply in first.replies)
    # The same updates under fresh masks: not a client's bytes agree, and yet the sums do.
    assert len(first.masked()) == 4
    assert not set(first.masked()) & set(second.masked())
    assert np.array_equal(vector(context), vector(again))
