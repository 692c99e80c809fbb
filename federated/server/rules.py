"""Flower's strategies as rules on vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from federated.transport import wire
from federated.transport.packing import Vector

WEIGHT = "num-examples"
FEW: dict[str, Any] = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
"""A strategy's arguments by which it goes on with however few clients answer."""


def weighted_mean() -> FedAvg:
    """Flower's weighted mean."""
    return FedAvg(**FEW)


def content(vector: Vector, examples: float) -> RecordDict:
    """A reply as Flower's strategies read it."""
    record: ArrayRecord = wire.to_record({"weights": vector})
    return RecordDict({wire.ARRAYS: record, wire.METRICS: MetricRecord({WEIGHT: examples})})


def aggregated(strategy: FedAvg, round_number: int, replies: Sequence[tuple[Vector, float]]) -> tuple[Vector, Array]:
    """One aggregation by a Flower strategy of vectors [P] with their weights: the result, and as it travels.

    Args:
        strategy: whose `aggregate_train` is asked.
        round_number: from 1.
        replies: (vector [P], weight) of each client.

    Raises:
        ValueError: the strategy made nothing of the replies.
    """
    messages = [Message(content(vector, examples), 0, MessageType.TRAIN) for vector, examples in replies]
    found, _ = strategy.aggregate_train(round_number, messages)
    if found is None:
        raise ValueError(f"{type(strategy).__name__} made nothing of {len(messages)} replies")
    array = found["weights"]
    vector = wire.from_array(array)
    if vector.dtype == np.float32:
        return vector, array
    vector = vector.astype(np.float32)  # some strategies compute in float64
    return vector, wire.to_array(vector)
