"""What leaves a client: the packed vectors, counts and metrics, and nothing of an image, a label or a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from federated.client.app import client_app
from federated.simulation.cell import Simulation, drive
from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire
from models.recipes.context import FitContext

Make = Callable[..., FitContext]
METRICS = {"partition", "num-examples", "num-val", "steps", "images", "loss", "accuracy", "drift"}
METRICS |= {"seconds", "seconds-training"}
ARRAYS = {"weights", "buffers", "shared", "resident", "personal", "positions", "values", "levels", "scales", "half"}


class Tapped(InProcessGrid):
    """Keeps each reply as the bytes that Flower would put on the wire."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(client_app(simulation.find), simulation.clients)
        self.replies: list[Message] = []
        self.bytes = b""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            self.replies.append(reply)
            self.bytes += b"".join(item.deflate() for item in get_all_nested_objects(reply).values())
        return replies


@pytest.mark.parametrize(
    ("regime", "compression"),
    [("fedavg", "none"), ("scaffold", "none"), ("fedbn", "none"), ("fedavg-svrg", "topk"), ("fedavg", "int8")],
)
def test_only_vectors_counts_and_means_leave_a_client(make_context: Make, regime: str, compression: str) -> None:
    simulation = Simulation.of(make_context(regime, compression=compression, compression_ratio=0.2))
    grid = Tapped(simulation)
    drive(simulation, grid)
    assert len(grid.replies) > 20
    trainable, buffers, personal = simulation.packing.sizes()
    for reply in grid.replies:
        arrays, metrics = wire.arrays_of(reply.content), wire.metrics_of(reply.content)
        assert set(arrays) <= ARRAYS
        assert set(metrics) <= METRICS
        assert not reply.content.config_records
        assert max((len(values) for values in arrays.values()), default=0) <= max(trainable, buffers, personal, 32)
    train = simulation.context.data.train
    for row in range(len(train)):
        assert train.inputs[row].tobytes() not in grid.bytes
        assert train.ids[row].encode() not in grid.bytes
    assert train.labels.tobytes() not in grid.bytes
    assert train.labels[simulation.shares.train[0].rows].tobytes() not in grid.bytes
    assert str(simulation.context.folder).encode() not in grid.bytes


def test_a_failure_of_a_site_tells_its_kind_and_no_path(tmp_path: Path) -> None:
    secret = tmp_path / "patient-4711.png"

    def broken(*_: object) -> None:
        raise FileNotFoundError(f"{secret} is not there")

    grid = InProcessGrid(client_app(broken, tell=lambda error: f"{type(error).__name__} at the site"), 1)  # type: ignore[arg-type]
    message = Message(RecordDict(), next(iter(grid.get_node_ids())), "train")
    (reply,) = grid.send_and_receive([message])
    told = str(reply.error.reason)
    assert told == "client 0 (train): FileNotFoundError at the site"
    assert not re.search("patient|4711", told)


def test_numbers_that_are_not_finite_cost_their_sender_the_reply(make_context: Make) -> None:
    simulation = Simulation.of(make_context("fedavg", rounds=1))

    class Poisoned(Tapped):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            replies = list(super().send_and_receive(messages, timeout=timeout))
            for reply in replies[:1]:
                if reply.metadata.message_type == "train":
                    size = simulation.packing.sizes()[0]
                    bad = wire.to_record({"weights": np.full(size, np.nan, np.float32), **_rest(reply)})
                    reply.content[wire.ARRAYS] = bad
            return replies

    progress = drive(simulation, Poisoned(simulation))
    row = progress.history[0]
    assert row["clients_answered"] == 4
    assert "(train): left out, the reply holds numbers that are not finite" in row["lost"]
    assert np.isfinite(progress.model.weights).all()


def _rest(reply: Message) -> wire.Arrays:
    return {name: values for name, values in wire.arrays_of(reply.content).items() if name != "weights"}
