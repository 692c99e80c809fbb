"""What leaves a client under differential privacy, read from the messages themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from bench.core.config import load_protocol
from bench.core.errors import UserError
from federated.client.app import PERSONAL, client_app
from federated.deployment.apps import lead, site_client
from federated.deployment.task import Task
from federated.simulation.cell import Simulation, drive
from federated.simulation.fit import fit
from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
PRIVATE = {"noise_multiplier": 1.0, "clip_norm": 1.0}


class Listening(InProcessGrid):
    """Keeps every message and its reply."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[tuple[str, dict[str, np.ndarray]]] = []

    def _answer(self, message: Message) -> Message:
        reply = super()._answer(message)
        self.heard.append((message.metadata.message_type, wire.arrays_of(reply.content)))
        return reply


def numbers_of(heard: list[tuple[str, dict[str, np.ndarray]]]) -> np.ndarray:
    """Every number of every reply but the digests of what all clients share."""
    return np.concatenate(
        [a.ravel().astype(np.float64) for _, arrays in heard for n, a in arrays.items() if n != "resident"]
    )


@pytest.mark.parametrize("privacy", ["none", "central", "local"])
def test_own_layers_stay_with_the_clients_to_the_end(make_context: Make, privacy: str) -> None:
    """Without privacy their mean is tested and they are sent once; with it, none of their numbers is in a reply."""
    fields = {} if privacy == "none" else {"privacy": privacy, **PRIVATE}
    context = make_context("fedbn", **fields)
    simulation = Simulation.of(context)
    grid = Listening(client_app(simulation.find), simulation.clients)
    progress = drive(simulation, grid)
    own = np.stack([simulation.client(number).personal(progress.best_round) for number in range(simulation.clients)])
    assert own.shape == (5, 32)
    asked = {kind for kind, _ in grid.heard}
    told = np.isin(own.astype(np.float64), numbers_of(grid.heard))
    if privacy == "none":
        assert PERSONAL in asked
        assert told.all()
        return
    assert asked == {"query.hello", "train", "evaluate"}
    # A BatchNorm's bias of a unit that never woke is 0, as other numbers are.
    assert not told[own != 0].any()
    first = Simulation.of(make_context("fedbn", **fields)).packing.initial_personal
    held = torch.cat([tensor.detach().reshape(-1) for tensor in simulation.packing.personal])
    np.testing.assert_array_equal(held.numpy(), first)


@pytest.mark.parametrize("privacy", ["central", "local"])
def test_a_client_refuses_to_tell_its_own_layers(make_context: Make, privacy: str) -> None:
    simulation = Simulation.of(make_context("fedbn", privacy=privacy, **PRIVATE))
    grid = InProcessGrid(client_app(simulation.find), simulation.clients)
    content = RecordDict({wire.CONFIG: ConfigRecord({"server-round": 1})})
    with pytest.raises(UserError, match=r"own layers stay here.*no noise would cover them"):
        grid.send_and_receive([Message(content, next(iter(grid.get_node_ids())), PERSONAL)])


def test_a_private_result_says_whose_layers_it_has_and_what_own_models_do(make_context: Make) -> None:
    outcome = fit(make_context("fedbn", privacy="local", **PRIVATE))
    assert any("own layers stay with them, since no noise would cover them" in note for note in outcome.notes)
    assert outcome.own is not None


def test_a_deployment_s_sites_keep_their_own_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    small = ["image_size=32", "synthetic_images=60", "batch_size=8", "tuning=full", "federated.rounds=1"]
    protocol = load_protocol("demo", [*small, "federated.clients=3", "federated.privacy=local"])
    classes = ("rim", "diffuse", "midline")
    task = Task("phantom-brain", "mobilenet_v2", "fedbn", protocol, classes, 3, rehearsal=True)

    def find(_: Message, context: Any) -> Any:
        partition = int(context.node_config["partition-id"])
        node = {"data": "phantom-brain", "partition-id": partition, "state": str(tmp_path / str(partition))}
        return site_client(task.to_json(), tuple(sorted(node.items())))

    grid = Listening(client_app(find), 3)
    lead(grid, task, tmp_path / "out", {"gather-timeout": 5.0, "round-timeout": 5.0, "minimum-sites": 0})
    assert {kind for kind, _ in grid.heard} == {"query.hello", "train", "evaluate"}
    assert "own layers stay with them" in (tmp_path / "out" / "status.json").read_text()
