"""The server's loop of algorithm 1: broadcast, local update, aggregate, until the rounds or the patience are over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from bench.core.identity import derive_seed
from federated import wire
from federated.aggregate import Aggregator, Model, Update
from federated.apps import PERSONAL
from federated.checkpoint import Progress
from federated.client import work_to_json
from federated.columns import distance, quality_columns, training_columns, without_the_draw
from federated.local import Work
from federated.packing import Vector
from federated.roster import Roster
from federated.secure import SecureRound

Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
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


@dataclass(frozen=True)
class Hooks:
    """Whom to tell, what to ask, where to save; `begin` hears of each round before anything of it is sent."""

    begin: Callable[[Progress], None] = lambda _: None
    on_round: Callable[[Row], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    save: Callable[[Progress], None] = lambda _: None


class Stopped(Exception):
    """The user asked to stop; the last finished round is saved."""


@dataclass
class _Traffic:
    up: int = 0
    down: int = 0
    wall: float = 0.0
    compute: list[float] = field(default_factory=list)


class Rounds:
    """Runs the rounds on any grid.

    Args:
        work: what a client is asked, but for the round's number.
    """

    def __init__(self, grid: Grid, roster: Roster, aggregator: Aggregator, work: Work, course: Course) -> None:
        self._grid, self._roster, self._aggregator = grid, roster, aggregator
        self._work, self._course = work, course

    def run(self, progress: Progress, hooks: Hooks) -> Progress:
        """Go on from `progress` to the end.

        Raises:
            Stopped: when asked to.
        """
        self._aggregator.remember(progress.memory)
        while not self._over(progress):
            if hooks.should_stop():
                raise Stopped
            hooks.begin(progress)
            progress = self._round(progress)
            hooks.save(progress)
            hooks.on_round(progress.history[-1])
        return progress

    def personal_mean(self, progress: Progress) -> Vector:
        """The weighted mean of the clients' own BatchNorm layers [L] after the best round."""
        traffic = _Traffic()
        replies = self._ask(PERSONAL, self._roster.available(), self._round_content(progress.best_round), traffic)
        pairs = [(wire.arrays_of(m.content)["personal"], wire.metrics_of(m.content)["num-examples"]) for m in replies]
        pairs = [(vector, weight) for vector, weight in pairs if len(vector)]
        total = sum(weight for _, weight in pairs)
        mean = sum(np.asarray(vector, np.float64) * (weight / total) for vector, weight in pairs)
        return np.asarray(mean, np.float32)

    def _over(self, progress: Progress) -> bool:
        waited = progress.round - progress.best_round
        return progress.round >= self._course.rounds or (progress.round > 0 and waited >= self._course.patience)

    def _round(self, progress: Progress) -> Progress:
        started, traffic, number = time.perf_counter(), _Traffic(), progress.round + 1
        self._roster.refresh(self._grid)
        asked = self._sample(number)
        work = replace(self._work, round=number, best_round=progress.best_round)
        updates, replies = self._train(work, asked, progress.model, traffic)
        model = progress.model
        if updates or self._course.poisson:
            noise = np.random.default_rng(None if self._course.system_noise else self._seed("central-noise", number))
            model = self._aggregator.step(number, updates, model, noise)
        quality = self._evaluate(number, model, traffic)
        row = {"round": number, **training_columns(replies), **quality}
        row |= {
            "learning_rate": self._work.learning_rate,
            "clients_asked": len(asked),
            "clients_answered": len(replies),
            "answered": ",".join(str(int(reply["partition"])) for reply in replies),
        }
        row |= {"update_norm": distance(model.weights, progress.model.weights)}
        row |= self._cost_columns(traffic, started)
        row = without_the_draw(row) if self._course.secret_draw else row
        return progress.advanced(model, row, self._aggregator.memory())

    def _train(
        self, work: Work, asked: list[int], model: Model, traffic: _Traffic
    ) -> tuple[list[Update], list[dict[str, float]]]:
        if self._course.secure_range is not None:
            return self._train_secretly(work, asked, model, traffic)
        config = ConfigRecord({"work": work_to_json(work)})
        chosen = cast(Grid, _Chosen(self._roster.nodes(asked)))
        self._aggregator.seen(model)
        messages = self._aggregator.messages(work.round, model, config, chosen) if asked else []
        answers = self._exchange(messages, traffic)
        updates, metrics = [], []
        for message in answers:
            try:
                updates.append(self._aggregator.decode(message, model))
            except (ValueError, KeyError) as error:  # a broken client must not take the round with it
                self._roster.failures.append(f"partition {wire.metrics_of(message.content)['partition']:.0f}: {error}")
                continue
            metrics.append(wire.metrics_of(message.content))
        return updates, metrics

    def _train_secretly(
        self, work: Work, asked: list[int], model: Model, traffic: _Traffic
    ) -> tuple[list[Update], list[dict[str, float]]]:
        assert self._course.secure_range is not None
        grid = cast(Grid, _Metered(self._grid, self._roster, traffic))
        work = replace(work, proximal_mu=getattr(self._aggregator.strategy, "proximal_mu", 0.0))
        largest = float(self._roster.largest())
        secure = SecureRound(grid, work, largest, self._course.secure_range, self._course.timeout)
        updates, metrics = secure.run(self._roster.nodes(asked), model)
        self._aggregator.seen(model)
        traffic.compute += [m["seconds"] for m in metrics]
        return updates, metrics

    def _evaluate(self, number: int, model: Model, traffic: _Traffic) -> Row:
        content = self._round_content(number)
        arrays = self._aggregator.arrays(model)
        content[wire.ARRAYS] = ArrayRecord({name: arrays[name] for name in ("weights", "buffers")})
        answers = self._ask(MessageType.EVALUATE, self._roster.with_validation(), content, traffic)
        return quality_columns([wire.metrics_of(message.content) for message in answers])

    def _ask(self, kind: str, partitions: list[int], content: RecordDict, traffic: _Traffic) -> list[Message]:
        messages = [Message(content, node, kind) for node in self._roster.nodes(partitions)]
        return self._exchange(messages, traffic)

    def _exchange(self, messages: list[Message], traffic: _Traffic) -> list[Message]:
        """Send and receive; the answers that are no error, by partition, whatever the order of their arrival."""
        started = time.perf_counter()
        traffic.down += wire.messages_bytes(messages)
        replies = list(self._grid.send_and_receive(messages, timeout=self._course.timeout)) if messages else []
        traffic.wall += time.perf_counter() - started
        traffic.up += sum(wire.message_bytes(reply) for reply in replies)
        good = [reply for reply in replies if reply.has_content()]
        self._roster.note_failures([reply for reply in replies if reply.has_error()])
        metrics = [wire.metrics_of(reply.content) for reply in good]
        traffic.compute += [m["seconds"] for m in metrics if "seconds" in m]
        return sorted(good, key=lambda reply: self._roster.partition(reply.metadata.src_node_id))

    def _sample(self, number: int) -> list[int]:
        """The partitions asked this round: a draw on sorted partitions, since node ids differ from run to run."""
        everyone, share = self._roster.expected, self._course.participation
        random = np.random.default_rng(None if self._course.secret_draw else self._seed("sample", number))
        if self._course.poisson:
            drawn = np.flatnonzero(random.random(everyone) < share)
        else:
            drawn = random.choice(everyone, max(1, round(share * everyone)), replace=False)
        available = set(self._roster.available())
        return sorted(int(p) for p in drawn if int(p) in available)

    def _seed(self, purpose: str, number: int) -> int:
        return derive_seed(self._work.seed, purpose, number)

    def _round_content(self, number: int) -> RecordDict:
        return RecordDict({wire.CONFIG: ConfigRecord({"server-round": number})})

    def _cost_columns(self, traffic: _Traffic, started: float) -> Row:
        computing = max(traffic.compute, default=0.0) if self._course.parallel else sum(traffic.compute)
        return {
            "up_mb": traffic.up / 1e6,
            "down_mb": traffic.down / 1e6,
            "seconds_compute": sum(traffic.compute),
            "seconds_communication": max(0.0, traffic.wall - computing),
            "seconds": time.perf_counter() - started,
        }


@dataclass(frozen=True)
class _Chosen:
    """A grid seen through a sample: Flower's strategies take their clients from what a grid lists, and ask no more."""

    nodes: list[int]

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes


@dataclass(frozen=True)
class _Metered:
    """A grid whose messages are weighed."""

    grid: Grid
    roster: Roster
    traffic: _Traffic

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        started, sent = time.perf_counter(), list(messages)
        self.traffic.down += wire.messages_bytes(sent)
        replies = list(self.grid.send_and_receive(sent, timeout=timeout))
        self.roster.note_failures([reply for reply in replies if reply.has_error()])
        self.traffic.up += sum(wire.message_bytes(reply) for reply in replies)
        self.traffic.wall += time.perf_counter() - started
        return replies
