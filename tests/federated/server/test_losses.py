"""What is lost and what is a failure: only the simulation's draw and a real network lose a reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from bench.core.errors import UserError
from federated.algorithms.registry import algorithm_of
from federated.client.app import client_app, whole_traceback
from federated.client.client import Client
from federated.server.aggregate import Aggregator
from federated.server.checkpoint import Progress
from federated.server.client_manager import ClientManager
from federated.server.losses import ClientFailed, Loss, history_notes, written
from federated.server.rounds import Hooks, Rounds
from federated.settings import round_settings_of, work_of
from federated.simulation.cell import Simulation, drive
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
DRAWN = "lost by the simulation's own draw (dropout_rate)"


def break_client(patch: pytest.MonkeyPatch, method: str, error: Exception, *partitions: int) -> None:
    """Let a method of some clients raise."""
    whole = getattr(Client, method)

    def broken(client: Client, *arguments: Any) -> Any:
        if client.partition in partitions:
            raise error
        return whole(client, *arguments)

    patch.setattr(Client, method, broken)


@pytest.mark.parametrize("method", ["describe", "fit", "evaluate"])
@pytest.mark.parametrize("secret", [False, True])
def test_a_client_whose_code_raises_fails_the_fit(
    make_context: Make, monkeypatch: pytest.MonkeyPatch, method: str, secret: bool
) -> None:
    break_client(monkeypatch, method, MemoryError("no room for the images"), 3)
    with pytest.raises(MemoryError, match="no room for the images") as caught:
        fit(make_context("fedavg", secure_aggregation=secret))
    kind = {"describe": "query.hello", "fit": "train", "evaluate": "evaluate"}[method]
    assert caught.value.__notes__ == [f"raised by client 3 ({kind})"]


@pytest.mark.parametrize("method", ["describe", "fit", "evaluate"])
def test_a_failure_in_another_process_brings_the_client_s_traceback(
    make_context: Make, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    break_client(monkeypatch, method, OSError("the disk is full"), 1, 3)
    simulation = Simulation.of(make_context("fedavg"))
    grid = InProcessGrid(client_app(simulation.find, tell=whole_traceback), simulation.clients)
    with pytest.raises(ClientFailed, match=r"client \d \(.*\): .* OSError: the disk is full") as caught:
        drive(simulation, grid)
    assert "in broken" in caught.value.__notes__[0]
    assert "raise error" in caught.value.__notes__[0]


def test_a_drawn_loss_costs_its_reply_and_is_told(make_context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulation, "drops", lambda _, number, partition: number == 2 and partition in (1, 4))
    outcome = fit(make_context("fedavg"))
    assert [row["lost"] for row in outcome.history] == ["", f"client 1 (train): {DRAWN}; client 4 (train): {DRAWN}", ""]
    assert [row["clients_answered"] for row in outcome.history] == [5, 3, 5]
    assert not any(row["skipped"] for row in outcome.history)
    assert f"lost (train): client 1 in round 2, client 4 in round 2: {DRAWN}" in outcome.notes


@pytest.mark.parametrize("secret", [False, True])
def test_a_round_that_lost_everybody_is_skipped_and_said(
    make_context: Make, monkeypatch: pytest.MonkeyPatch, secret: bool
) -> None:
    monkeypatch.setattr(Simulation, "drops", lambda _, number, partition: number == 1)
    # A rate at which no round is better than the start: an untrained model would be the best.
    context = make_context("fedavg", kind="linear", local_learning_rate=1e-12, secure_aggregation=secret)
    outcome = fit(context)
    assert [row["skipped"] for row in outcome.history] == [True, False, False]
    assert outcome.history[0]["val_accuracy"] is None
    assert outcome.history[0]["update_norm"] == 0
    assert outcome.columns["best_round"] == 2
    assert "no update arrived in round 1: skipped, the model stayed as it was" in outcome.notes


def test_waiting_for_a_first_update_is_no_lack_of_progress(make_context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulation, "drops", lambda _, number, partition: 0 < number < 5)
    outcome = fit(make_context("fedavg", protocol={"epochs": 6, "early_stopping_patience": 2}))
    assert [row["skipped"] for row in outcome.history] == [True] * 4 + [False] * 2


def test_a_fit_without_any_update_fails_with_a_sentence(make_context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulation, "drops", lambda _, number, partition: number > 0)
    with pytest.raises(
        UserError, match=r"no client's update was aggregated in 3 rounds, so nothing was trained; .*draw"
    ):
        fit(make_context("fedavg"))


def test_too_few_answers_to_unmask_are_a_skipped_round(make_context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulation, "drops", lambda _, number, partition: number == 2 and partition > 0)
    outcome = fit(make_context("fedavg", clients=4, secure_aggregation=True))
    row = outcome.history[1]
    assert (row["skipped"], row["clients_answered"]) == (True, 0)
    assert row["lost"].startswith(
        "client 0 (train): too few others answered to unmask the sum; client 1 (train): lost by"
    )


class Lossy(InProcessGrid):
    """Loses replies as a network does: an error of the SuperLink's own node, or nothing at all."""

    def __init__(self, simulation: Simulation, lost: Callable[[str, int, int], bool], code: int | None) -> None:
        super().__init__(client_app(simulation.find), simulation.clients)
        self._lost, self._code, self._round = lost, code, 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent = list(messages)
        self._round += bool(sent) and sent[0].metadata.message_type == "train"
        for message, reply in zip(sent, list(super().send_and_receive(sent)), strict=True):
            kind, partition = message.metadata.message_type, message.metadata.dst_node_id - 1000
            if not self._lost(kind, self._round, partition):
                yield reply
            elif self._code is not None:
                error = Message(Error(self._code, "Flower's own words"), reply_to=message)
                error.metadata.__dict__["_src_node_id"] = 1
                yield error


def run_on_network(simulation: Simulation, grid: InProcessGrid, network: bool = True) -> Progress:
    """The rounds as a deployment runs them."""
    context = simulation.context
    manager = ClientManager(simulation.clients, simulation.packing.resident_digest(), network=network)
    manager.gather(grid)
    algorithm = algorithm_of(context.regime, simulation.federation)
    aggregator = Aggregator(algorithm, manager.total_examples(), simulation.clients)
    work = work_of(algorithm, context.fit_seed)
    rounds = Rounds(grid, manager, aggregator, work, round_settings_of(context.protocol, timeout=60))
    return rounds.run(simulation.start(), Hooks())


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (ErrorCode.NODE_UNAVAILABLE, "the site could not be reached"),
        (ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "the reply was lost on its way"),
        (None, "no reply within 60 s"),
    ],
)
def test_a_network_s_loss_names_the_site_and_the_reason(make_context: Make, code: int | None, why: str) -> None:
    simulation = Simulation.of(make_context("fedavg"))
    grid = Lossy(simulation, lambda kind, number, partition: (kind, number, partition) == ("train", 2, 3), code)
    progress = run_on_network(simulation, grid)
    assert [row["lost"] for row in progress.history] == ["", f"client 3 (train): {why}", ""]
    assert history_notes(progress.history) == [f"lost (train): client 3 in round 2: {why}"]


def test_a_crash_at_a_site_is_no_loss_of_the_network(make_context: Make) -> None:
    simulation = Simulation.of(make_context("fedavg"))
    grid = Lossy(simulation, lambda kind, *_: kind == "train", ErrorCode.CLIENT_APP_CRASHED)
    with pytest.raises(ClientFailed, match="Flower's own words"):
        run_on_network(simulation, grid)


@pytest.mark.parametrize("code", [ErrorCode.NODE_UNAVAILABLE, None])
def test_a_simulation_has_no_network_to_blame(make_context: Make, code: int | None) -> None:
    simulation = Simulation.of(make_context("fedavg"))
    grid = Lossy(simulation, lambda kind, _, partition: (kind, partition) == ("train", 2), code)
    with pytest.raises(ClientFailed, match=r"Flower's own words|a client did not answer within 60 s"):
        run_on_network(simulation, grid, network=False)


def test_a_round_whose_evaluation_was_lost_is_never_the_one_tested(make_context: Make) -> None:
    simulation = Simulation.of(make_context("fedavg"))
    grid = Lossy(simulation, lambda kind, number, _: kind == "evaluate" and number == 3, ErrorCode.NODE_UNAVAILABLE)
    progress = run_on_network(simulation, grid)
    assert progress.history[2]["val_accuracy"] is None
    assert progress.best_round in (1, 2)
    assert not math.isnan(progress.best_accuracy)
    assert "lost (evaluate): client 0 in round 3, " in history_notes(progress.history)[0]


def test_a_fit_that_was_never_evaluated_fails_with_a_sentence(make_context: Make) -> None:
    simulation = Simulation.of(make_context("fedavg"))
    grid = Lossy(simulation, lambda kind, *_: kind == "evaluate", ErrorCode.NODE_UNAVAILABLE)
    with pytest.raises(UserError, match="no evaluation was answered in 3 rounds, so no round can be chosen"):
        run_on_network(simulation, grid)


def test_many_losses_are_counted_instead_of_listed() -> None:
    def row(number: int, *clients: int) -> dict[str, Any]:
        lost = written(Loss(client, "train", "gone; for good") for client in clients)
        return {"round": number, "val_accuracy": 0.5, "skipped": False, "lost": lost}

    history = [row(1, *range(7)), row(2), row(3, 0)]
    assert history_notes(history) == ["lost (train): 8 replies of 7 clients in 2 of 3 rounds: gone, for good"]
