"""The server's loop of algorithm 1: broadcast, local update, aggregate, until the rounds or the patience are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from bench.core.errors import UserError
from bench.core.identity import derive_seed
from federated.client.app import PERSONAL
from federated.client.client import work_to_json
from federated.client.training import Work
from federated.server.aggregate import Aggregator
from federated.server.checkpoint import Progress
from federated.server.client_manager import ClientManager
from federated.server.columns import distance, quality_columns, training_columns, without_the_draw
from federated.server.exchange import Exchange
from federated.server.losses import Loss, refuse_without_update, written
from federated.server.vectors import Model, Update
from federated.transport import wire
from federated.transport.packing import Vector
from federated.transport.secure import SecureRound

Row = dict[str, Any]


@dataclass(frozen=True)
class RoundSettings:
    """How long and with whom.

    Attributes:
        patience: rounds without a better validation accuracy after which training ends.
        participation: share of the clients asked in a round; under `poisson` each is asked with this chance, which is
            what the privacy accountant reckons with.
        parallel: whether clients compute at the same time (a deployment), which tells waiting from computing.
        timeout: seconds to wait for a round's replies.
        system_noise: draw central noise and the sample from the operating system's entropy, as a deployment must.
        secure_range: aggregate by SecAgg+, which carries numbers within plus and minus this.
    """

    rounds: int
    patience: int
    participation: float = 1.0
    poisson: bool = False
    parallel: bool = False
    timeout: float = 3600.0
    system_noise: bool = False
    secure_range: float | None = None

    @property
    def secret_draw(self) -> bool:
        """Whether privacy rests on nobody's knowing who was asked in a round."""
        return self.poisson and self.system_noise

    def asked(self, everyone: int) -> float:
        """How many of `everyone` a round asks: a fixed number, or under `poisson` the mean of the draws."""
        share = self.participation * everyone
        return share if self.poisson else max(1, round(share))


@dataclass(frozen=True)
class Hooks:
    """Whom to tell, what to ask, where to save; `begin` hears of each round before anything of it is sent."""

    begin: Callable[[Progress], None] = lambda _: None
    on_round: Callable[[Row], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    save: Callable[[Progress], None] = lambda _: None


class Stopped(Exception):
    """The user asked to stop; the last finished round is saved."""


class Rounds:
    """Runs the rounds on any grid.

    Args:
        work: what a client is asked, but for the round's number.
    """

    def __init__(
        self, grid: Grid, manager: ClientManager, aggregator: Aggregator, work: Work, settings: RoundSettings
    ) -> None:
        self._grid, self._manager, self._aggregator = grid, manager, aggregator
        self._work, self._settings = work, settings

    def run(self, progress: Progress, hooks: Hooks) -> Progress:
        """Go on from `progress` to the end.

        Raises:
            Stopped: when asked to.
            ClientFailed: when a client's code raised; in the server's own process, whatever it raised.
            UserError: when no update was ever aggregated, or no aggregated model ever evaluated.
        """
        self._aggregator.algorithm.remember(progress.memory)
        while not self._over(progress):
            if hooks.should_stop():
                raise Stopped
            hooks.begin(progress)
            progress = self._round(progress)
            hooks.save(progress)
            hooks.on_round(progress.history[-1])
        refuse_without_update(progress.history, progress.best_round)
        return progress

    def personal_mean(self, progress: Progress) -> tuple[Vector, list[Loss]]:
        """The weighted mean of what stays with the clients [L] after the best round, and whose are not in it.

        Raises:
            UserError: when none came.
        """
        exchange = self._exchange()
        replies = self._ask(PERSONAL, self._manager.available(), self._round_content(progress.best_round), exchange)
        pairs = [(wire.arrays_of(m.content)["personal"], wire.metrics_of(m.content)["num-examples"]) for m in replies]
        pairs = [(vector, weight) for vector, weight in pairs if len(vector)]
        if not pairs:
            raise UserError(f"no client sent its own layers: {written(exchange.lost) or 'none has any'}")
        total = sum(weight for _, weight in pairs)
        mean = sum(np.asarray(vector, np.float64) * (weight / total) for vector, weight in pairs)
        return np.asarray(mean, np.float32), exchange.lost

    def _over(self, progress: Progress) -> bool:
        waited = progress.round - progress.best_round
        impatient = progress.best_round > 0 and waited >= self._settings.patience
        return progress.round >= self._settings.rounds or impatient

    def _round(self, progress: Progress) -> Progress:
        started, exchange, number = time.perf_counter(), self._exchange(), progress.round + 1
        self._manager.refresh(self._grid)
        asked, absent = self._sample(number)
        exchange.lost += [Loss(partition, MessageType.TRAIN, "the site is not connected") for partition in absent]
        rate = self._aggregator.algorithm.learning_rate(self._work.learning_rate, number, self._settings.rounds)
        work = replace(self._work, round=number, best_round=progress.best_round, learning_rate=rate)
        updates, replies = self._train(work, asked, progress.model, exchange)
        model, skipped = progress.model, not (updates or self._settings.poisson)
        if not skipped:
            noise = np.random.default_rng(None if self._settings.system_noise else self._seed("central-noise", number))
            model = self._aggregator.step(number, updates, model, noise)
        quality = quality_columns([]) if skipped else self._evaluate(number, model, exchange)
        row = {"round": number, **training_columns(replies), **quality}
        row |= {
            "learning_rate": rate,
            "clients_asked": len(asked),
            "clients_answered": len(replies),
            "answered": ",".join(str(int(reply["partition"])) for reply in replies),
            "lost": written(exchange.lost),
            "skipped": skipped,
        }
        row |= {"update_norm": distance(model.weights, progress.model.weights)}
        row |= self._cost_columns(exchange, started)
        row = without_the_draw(row) if self._settings.secret_draw else row
        return progress.advanced(model, row, self._aggregator.algorithm.memory(), self._manager.has_judges())

    def _train(
        self, work: Work, asked: list[int], model: Model, exchange: Exchange
    ) -> tuple[list[Update], list[dict[str, float]]]:
        if self._settings.secure_range is not None:
            return self._train_secretly(work, asked, model, exchange)
        config = ConfigRecord({"work": work_to_json(work)})
        chosen = cast(Grid, _Chosen(self._manager.nodes(asked)))
        messages = self._aggregator.messages(work.round, model, config, chosen) if asked else []
        updates, metrics = [], []
        for message in exchange.ask(messages):
            try:
                updates.append(self._aggregator.decode(message, model))
            except (ValueError, KeyError) as error:  # numbers that are none must not take the round with them
                partition = self._manager.partition(message.metadata.src_node_id)
                exchange.lost.append(Loss(partition, MessageType.TRAIN, f"left out, {error}"))
                continue
            metrics.append(wire.metrics_of(message.content))
        return updates, metrics

    def _train_secretly(
        self, work: Work, asked: list[int], model: Model, exchange: Exchange
    ) -> tuple[list[Update], list[dict[str, float]]]:
        assert self._settings.secure_range is not None
        grid = cast(Grid, exchange)
        largest = float(self._manager.largest())
        secure = SecureRound(grid, work, largest, self._settings.secure_range, self._settings.timeout)
        updates, metrics = secure.run(self._manager.nodes(asked), model)
        exchange.compute += [m["seconds"] for m in metrics]
        if not updates:
            whole = set(asked) - {loss.partition for loss in exchange.lost}
            why = "too few others answered to unmask the sum"
            exchange.lost += [Loss(partition, MessageType.TRAIN, why) for partition in sorted(whole)]
        return updates, metrics

    def _evaluate(self, number: int, model: Model, exchange: Exchange) -> Row:
        content = self._round_content(number)
        arrays = self._aggregator.arrays(model)
        content[wire.ARRAYS] = ArrayRecord({name: arrays[name] for name in ("weights", "buffers")})
        answers = self._ask(MessageType.EVALUATE, self._manager.with_validation(), content, exchange)
        return quality_columns([wire.metrics_of(message.content) for message in answers])

    def _ask(self, kind: str, partitions: list[int], content: RecordDict, exchange: Exchange) -> list[Message]:
        return exchange.ask(Message(content, node, kind) for node in self._manager.nodes(partitions))

    def _exchange(self) -> Exchange:
        return Exchange(self._grid, self._manager, self._settings.timeout)

    def _sample(self, number: int) -> tuple[list[int], list[int]]:
        """The partitions asked this round and those drawn that are not connected.

        The draw is on sorted partitions, since node ids differ from run to run.
        """
        everyone, share = self._manager.expected, self._settings.participation
        random = np.random.default_rng(None if self._settings.secret_draw else self._seed("sample", number))
        if self._settings.poisson:
            drawn = np.flatnonzero(random.random(everyone) < share)
        else:
            drawn = random.choice(everyone, int(self._settings.asked(everyone)), replace=False)
        available, chosen = set(self._manager.available()), {int(partition) for partition in drawn}
        return sorted(chosen & available), sorted(chosen - available)

    def _seed(self, purpose: str, number: int) -> int:
        return derive_seed(self._work.seed, purpose, number)

    def _round_content(self, number: int) -> RecordDict:
        return RecordDict({wire.CONFIG: ConfigRecord({"server-round": number})})

    def _cost_columns(self, exchange: Exchange, started: float) -> Row:
        computing = max(exchange.compute, default=0.0) if self._settings.parallel else sum(exchange.compute)
        return {
            "up_mb": exchange.up / 1e6,
            "down_mb": exchange.down / 1e6,
            "seconds_compute": sum(exchange.compute),
            "seconds_communication": max(0.0, exchange.wall - computing),
            "seconds": time.perf_counter() - started,
        }


@dataclass(frozen=True)
class _Chosen:
    """A grid seen through a sample: Flower's strategies take their clients from what a grid lists, and ask no more."""

    nodes: list[int]

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes
