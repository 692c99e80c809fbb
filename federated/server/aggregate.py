"""From the clients' replies to the next model. The algorithm's rule gets the trainable vectors alone.

The guard: buffers are averaged (or taken by the same robust rule); no server optimizer, clipping or noise sees them.
Flower's FedAvgM and FedAdam, given everything, drive a running variance below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from federated.algorithms.base import Algorithm
from federated.privacy import mechanism as privacy
from federated.server.rules import WEIGHT, aggregated, weighted_mean
from federated.server.vectors import Model, Update
from federated.transport import compression, wire


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
    """Carries an algorithm through the rounds.

    Args:
        algorithm: a fresh one, which serves no other federation.
        total_examples: training images of all clients.
        clients: number of clients, those not asked included.
    """

    def __init__(
        self, algorithm: Algorithm, total_examples: float, clients: int, central: CentralPrivacy | None = None
    ) -> None:
        self.algorithm = algorithm
        self._total, self._clients, self._central = total_examples, clients, central
        self._serialised: tuple[Model, dict[str, Array]] | None = None

    def arrays(self, model: Model) -> dict[str, Array]:
        """A model's vectors as they travel; serialised once, however many messages carry them."""
        if self._serialised is None or self._serialised[0] is not model:
            made = {name: wire.to_array(getattr(model, name)) for name in ("weights", "buffers", "shared")}
            self._serialised = (model, made)
        return self._serialised[1]

    def messages(self, round_number: int, model: Model, config: ConfigRecord, grid: Grid) -> list[Message]:
        """The round's training messages, made by Flower for every node of `grid`.

        Args:
            round_number: from 1.
            model: what the round starts from.
            config: what clients are told besides.
            grid: the nodes.
        """
        arrays = self.arrays(model)
        record = ArrayRecord({"weights": arrays["weights"]})
        messages = list(self.algorithm.rule.configure_train(round_number, record, config, grid))
        names = ("buffers", "shared") if len(model.shared) else ("buffers",)
        rest = ArrayRecord({name: arrays[name] for name in names})
        for message in messages:
            message.content[wire.STATE] = rest
            message.metadata.group_id = str(round_number)
        return messages

    def decode(self, message: Message, model: Model) -> Update:
        """Read a reply. Raises ValueError for an unknown encoding or numbers that are not finite."""
        arrays = wire.arrays_of(message.content)
        metrics = wire.metrics_of(message.content)
        buffers = np.asarray(arrays.pop("buffers"), np.float32)
        shared = np.asarray(arrays.pop("shared", np.empty(0)), np.float32)
        weights = compression.decode(arrays, model.weights)
        if len(weights) != len(model.weights) or len(buffers) != len(model.buffers):
            raise ValueError(f"{len(weights)=} and {len(buffers)=} do not fit the model")
        if not (np.isfinite(weights).all() and np.isfinite(buffers).all()):
            raise ValueError("the reply holds numbers that are not finite")
        return Update(weights, buffers, shared, metrics[WEIGHT], metrics["steps"])

    def step(self, round_number: int, updates: Sequence[Update], model: Model, noise: np.random.Generator) -> Model:
        """The next model from at least one update (none only under central privacy, where noise is released alone).

        Args:
            round_number: from 1.
            updates: the decoded replies.
            model: what the round started from.
            noise: the stream of central privacy's noise.
        """
        prepared = self.algorithm.prepare(updates, model)
        if self._central is not None:
            prepared = self._privatise(round_number, prepared, model, self._central, noise)
        pairs = [(u.weights, u.examples) for u in prepared]
        mean, array = aggregated(self.algorithm.rule, round_number, pairs)
        weights = np.asarray(self.algorithm.stepped(mean, updates, model, self._clients), np.float32)
        array = array if weights is mean else wire.to_array(weights)
        merged = len(model.buffers) > 0 and len(updates) > 0
        buffers = self.algorithm.merge_buffers(round_number, updates) if merged else model.buffers
        stepped = Model(weights, buffers, self.algorithm.next_shared(updates, model, self._total))
        rest = {name: wire.to_array(getattr(stepped, name)) for name in ("buffers", "shared")}
        self._serialised = (stepped, {"weights": array, **rest})
        return stepped

    def _privatise(
        self, number: int, updates: Sequence[Update], model: Model, central: CentralPrivacy, noise: np.random.Generator
    ) -> list[Update]:
        if not updates:  # a Poisson sample may be empty, and its noise is released all the same
            return [Update(privacy.noisy(model.weights, central.deviation(), noise), *_NOTHING)]
        clipped = [replace(u, weights=privacy.clip(u.weights, model.weights, central.bound(u))) for u in updates]
        mean = aggregated(weighted_mean(), number, [(u.weights, u.examples) for u in clipped])[0]
        share = sum(u.examples for u in updates) / central.expected
        if share != 1 and central.noise_multiplier > 0:
            # The denominator may not depend on who answered, or the sensitivity would.
            mean = (model.weights + share * (mean.astype(np.float64) - model.weights)).astype(np.float32)
        return [replace(updates[0], weights=privacy.noisy(mean, central.deviation(), noise))]
