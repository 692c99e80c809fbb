"""The contract with the parts of Flower that are not public.

When one of these fails after an upgrade of flwr, look at federated/simulation/inprocess.py, the one file with them:
`flwr.supercore.task_identity.TaskIdentity` (what `Message()` reads), `flwr.supercore.run.Run.create_empty`,
`Metadata._message_id` (what a SuperLink sets), the abstract methods of `flwr.serverapp.Grid`, and the .npy layout of
`flwr.app.Array.data`. Widen the pin in pyproject.toml only when all of them pass.
"""

from __future__ import annotations

import inspect

import flwr
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire


def app() -> ClientApp:
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        if partition == 2:
            raise RuntimeError("the disk is full")
        seen = context.state.metric_records.get("seen", MetricRecord({"times": 0}))
        context.state["seen"] = MetricRecord({"times": int(seen["times"]) + 1})
        content = RecordDict({"metrics": MetricRecord({"partition": partition, "times": int(seen["times"]) + 1})})
        return Message(content, reply_to=message)

    return made


def test_the_pinned_version_is_installed() -> None:
    assert flwr.__version__.startswith(("1.41.", "1.42."))


def test_the_grid_implements_what_flower_asks() -> None:
    assert Grid.__abstractmethods__ <= set(dir(InProcessGrid))
    assert not InProcessGrid.__abstractmethods__


def test_the_strategy_has_the_steps_that_the_rounds_call() -> None:
    assert list(inspect.signature(Strategy.configure_train).parameters)[1:] == [
        "server_round",
        "arrays",
        "config",
        "grid",
    ]
    assert list(inspect.signature(FedAvg.aggregate_train).parameters)[1:] == ["server_round", "replies"]


def test_replies_come_in_the_order_asked_and_state_stays_with_the_node() -> None:
    grid = InProcessGrid(app(), 4)
    nodes = list(grid.get_node_ids())
    for times in (1, 2):
        messages = [Message(RecordDict(), node, MessageType.TRAIN) for node in (nodes[3], nodes[0])]
        replies = list(grid.send_and_receive(messages))
        assert [reply.metadata.src_node_id for reply in replies] == [nodes[3], nodes[0]]
        assert [reply.metadata.reply_to_message_id for reply in replies] == [m.metadata.message_id for m in messages]
        assert [wire.metrics_of(reply.content) for reply in replies] == [
            {"partition": 3, "times": times},
            {"partition": 0, "times": times},
        ]


def test_what_a_client_raises_is_raised_to_the_sender() -> None:
    grid = InProcessGrid(app(), 3)
    messages = [Message(RecordDict(), node, MessageType.TRAIN) for node in grid.get_node_ids()]
    with pytest.raises(RuntimeError, match="the disk is full"):
        grid.send_and_receive(messages)


def test_our_arrays_are_flowers_arrays() -> None:
    for values in (np.arange(7, dtype=np.float32), np.zeros(0, np.float32), np.array([[1, 2]], np.int8)):
        assert wire.to_array(values).data == Array(values).data
        assert np.array_equal(wire.to_array(values).numpy(), values)
        assert np.array_equal(wire.from_array(Array(values)), values)


def test_pickled_arrays_are_refused() -> None:
    import io

    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="plain numbers"):
        wire.from_array(Array("object", (1,), "numpy.ndarray", stream.getvalue()))


def test_the_measured_bytes_are_those_of_the_serialised_message() -> None:
    InProcessGrid(app(), 1)
    record: ArrayRecord = wire.to_record({"weights": np.random.default_rng(0).random(500_000).astype(np.float32)})
    message = Message(RecordDict({"arrays": record, "metrics": MetricRecord({"loss": 1.0})}), 1000, MessageType.TRAIN)
    whole = sum(len(item.deflate()) for item in get_all_nested_objects(message).values())
    assert wire.message_bytes(message) == pytest.approx(whole, rel=0.01)
