"""From the clients' replies to the next model. Flower's strategy gets the trainable vectors alone.

The guard: buffers are averaged (or taken by the same robust rule); no server optimizer, clipping or noise sees them.
Flower's FedAvgM and FedAdam, given everything, drive a running variance below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedAvgM, Krum
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.serverapp.strategy.multikrum import select_multikrum

from federated.algorithms.registry import Recipe
from federated.privacy import mechanism as privacy
from federated.transport import compression, wire
from federated.transport.packing import Vector

WEIGHT = "num-examples"


@dataclass(frozen=True)
class Model:
    """The server's vectors: trainable [P], buffers [B], SCAFFOLD's control variate [P] or empty."""

    weights: Vector
    buffers: Vector
    control: Vector


@dataclass(frozen=True)
class Update:
    """A client's decoded reply."""

    weights: Vector
    buffers: Vector
    control: Vector
    examples: float
    steps: float


@dataclass(frozen=True)
class CentralPrivacy:
    """Clipping and noise at the server.

    Attributes:
        expected: sum over all clients of examples times the chance of being asked: the mean's fixed denominator.
        largest: the largest client's examples; with `expected` it bounds one client's influence.
    """

    clip_norm: float
    noise_multiplier: float
    expected: float
    largest: float

    def bound(self, update: Update) -> float:
        """The norm that an update is clipped to: less for one that weighs more than the noise reckons with."""
        return self.clip_norm * min(1.0, self.largest / max(update.examples, 1.0))

    def deviation(self) -> float:
        """Of the noise on the mean."""
        if self.noise_multiplier == 0:
            return 0.0
        return self.noise_multiplier * self.clip_norm * self.largest / self.expected


_NOTHING = (np.empty(0, np.float32), np.empty(0, np.float32), 1.0, 1.0)


class Aggregator:
    """Carries a strategy through the rounds.

    Args:
        total_examples: training images of all clients.
    """

    def __init__(self, recipe: Recipe, strategy: FedAvg, total_examples: float, central: CentralPrivacy | None) -> None:
        self._recipe, self.strategy = recipe, strategy
        self._mean, self._buffer_mean = _fedavg(), _fedavg()
        self._total, self._central = total_examples, central
        self._serialised: tuple[Model, dict[str, Array]] | None = None

    def arrays(self, model: Model) -> dict[str, Array]:
        """A model's vectors as they travel; serialised once, however many messages carry them."""
        if self._serialised is None or self._serialised[0] is not model:
            made = {name: wire.to_array(getattr(model, name)) for name in ("weights", "buffers", "control")}
            self._serialised = (model, made)
        return self._serialised[1]

    def messages(self, round_number: int, model: Model, config: ConfigRecord, grid: Grid) -> list[Message]:
        """The round's training messages, made by the strategy for every node of `grid`."""
        arrays = self.arrays(model)
        record = ArrayRecord({"weights": arrays["weights"]})
        messages = list(self.strategy.configure_train(round_number, record, config, grid))
        names = ("buffers", "control") if self._recipe.scaffold else ("buffers",)
        rest = ArrayRecord({name: arrays[name] for name in names})
        for message in messages:
            message.content[wire.STATE] = rest
            message.metadata.group_id = str(round_number)
        return messages

    def seen(self, model: Model) -> None:
        """Tell an adaptive strategy the round's model where its own messages were not sent."""
        if isinstance(self.strategy, FedOpt):
            self.strategy.current_arrays = {"weights": model.weights}
        elif isinstance(self.strategy, FedAvgM) and self.strategy.current_arrays is None:
            self.strategy.current_arrays = wire.to_record({"weights": model.weights})

    def decode(self, message: Message, model: Model) -> Update:
        """Read a reply. Raises ValueError for an unknown encoding or numbers that are not finite."""
        arrays = wire.arrays_of(message.content)
        metrics = wire.metrics_of(message.content)
        buffers = np.asarray(arrays.pop("buffers"), np.float32)
        control = np.asarray(arrays.pop("control", np.empty(0)), np.float32)
        weights = compression.decode(arrays, model.weights)
        if len(weights) != len(model.weights) or len(buffers) != len(model.buffers):
            raise ValueError(f"{len(weights)=} and {len(buffers)=} do not fit the model")
        if not (np.isfinite(weights).all() and np.isfinite(buffers).all()):
            raise ValueError("the reply holds numbers that are not finite")
        return Update(weights, buffers, control, metrics[WEIGHT], metrics["steps"])

    def step(self, round_number: int, updates: Sequence[Update], model: Model, noise: np.random.Generator) -> Model:
        """The next model from at least one update (none only under central privacy, where noise is released alone)."""
        prepared = self._normalize(updates, model) if self._recipe.normalized else list(updates)
        if self._central is not None:
            prepared = self._privatise(round_number, prepared, model, self._central, noise)
        weights, array = _aggregated(self.strategy, round_number, [(u.weights, u.examples) for u in prepared])
        buffers = self._buffers(round_number, updates) if updates else model.buffers
        stepped = Model(weights, buffers, self._control(updates, model))
        rest = {name: wire.to_array(getattr(stepped, name)) for name in ("buffers", "control")}
        self._serialised = (stepped, {"weights": array, **rest})
        return stepped

    def memory(self) -> dict[str, np.ndarray[Any, Any]]:
        """What the strategy must have again after a restart."""
        found: dict[str, np.ndarray[Any, Any]] = {}
        for name in ("m_t", "v_t"):
            held = getattr(self.strategy, name, None)
            if held:
                found[name] = held["weights"]
        momentum = getattr(self.strategy, "momentum_vector", None)
        return found | ({"momentum_vector": momentum[0]} if momentum else {})

    def remember(self, memory: dict[str, np.ndarray[Any, Any]]) -> None:
        """Undo `memory`."""
        for name, values in memory.items():
            setattr(self.strategy, name, [values] if name == "momentum_vector" else {"weights": values})

    def _normalize(self, updates: Sequence[Update], model: Model) -> list[Update]:
        """FedNova (arXiv 2007.07481): each update made a step long, then all as long as the mean number of steps."""
        total = sum(u.examples for u in updates)
        effective = sum(u.examples / total * u.steps for u in updates)
        return [u if u.steps == effective else _lengthened(u, model.weights, effective / u.steps) for u in updates]

    def _privatise(
        self, number: int, updates: Sequence[Update], model: Model, central: CentralPrivacy, noise: np.random.Generator
    ) -> list[Update]:
        if not updates:  # a Poisson sample may be empty, and its noise is released all the same
            return [Update(privacy.noisy(model.weights, central.deviation(), noise), *_NOTHING)]
        clipped = [replace(u, weights=privacy.clip(u.weights, model.weights, central.bound(u))) for u in updates]
        mean = _run(self._mean, number, [(u.weights, u.examples) for u in clipped])
        share = sum(u.examples for u in updates) / central.expected
        if share != 1 and central.noise_multiplier > 0:
            # The denominator may not depend on who answered, or the sensitivity would.
            mean = (model.weights + share * (mean.astype(np.float64) - model.weights)).astype(np.float32)
        return [replace(updates[0], weights=privacy.noisy(mean, central.deviation(), noise))]

    def _buffers(self, round_number: int, updates: Sequence[Update]) -> Vector:
        pairs = [(u.buffers, u.examples) for u in updates]
        if not self._recipe.robust or len(updates[0].buffers) == 0:
            return _run(self._buffer_mean, round_number, pairs)
        if isinstance(self.strategy, Krum):
            pairs = self._chosen_by_krum(self.strategy, updates)
            return _run(self._buffer_mean, round_number, pairs)
        return _run(self.strategy, round_number, pairs)

    def _chosen_by_krum(self, krum: Krum, updates: Sequence[Update]) -> list[tuple[Vector, float]]:
        contents = [_content(u.weights, u.examples) for u in updates]
        chosen = select_multikrum(contents, krum.num_malicious_nodes, krum.num_nodes_to_select)
        return [(u.buffers, u.examples) for u, c in zip(updates, contents, strict=True) if any(c is x for x in chosen)]

    def _control(self, updates: Sequence[Update], model: Model) -> Vector:
        """SCAFFOLD's variate stays the clients' weighted mean (arXiv 1910.06378, with FedAvg's weights)."""
        if not self._recipe.scaffold or not updates:
            return model.control
        change = sum(u.control.astype(np.float64) * (u.examples / self._total) for u in updates)
        return (model.control + change).astype(np.float32)


def _fedavg() -> FedAvg:
    return FedAvg(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)


def _lengthened(update: Update, start: Vector, factor: float) -> Update:
    longer = start + factor * (update.weights.astype(np.float64) - start)
    return replace(update, weights=longer.astype(np.float32))


def _content(vector: Vector, examples: float) -> RecordDict:
    record: ArrayRecord = wire.to_record({"weights": vector})
    return RecordDict({wire.ARRAYS: record, wire.METRICS: MetricRecord({WEIGHT: examples})})


def _run(strategy: FedAvg, round_number: int, replies: Sequence[tuple[Vector, float]]) -> Vector:
    return _aggregated(strategy, round_number, replies)[0]


def _aggregated(strategy: FedAvg, round_number: int, replies: Sequence[tuple[Vector, float]]) -> tuple[Vector, Array]:
    """One aggregation by a Flower strategy of vectors [P] with their weights: the result, and as it travels."""
    messages = [Message(_content(vector, examples), 0, MessageType.TRAIN) for vector, examples in replies]
    aggregated, _ = strategy.aggregate_train(round_number, messages)
    if aggregated is None:
        raise ValueError(f"{type(strategy).__name__} made nothing of {len(messages)} replies")
    array = aggregated["weights"]
    vector = wire.from_array(array)
    if vector.dtype == np.float32:
        return vector, array
    vector = vector.astype(np.float32)  # some strategies compute in float64
    return vector, wire.to_array(vector)
