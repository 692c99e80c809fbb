"""A round's messages and what comes back of them, weighed and timed."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from federated.server.client_manager import ClientManager
from federated.server.losses import Loss, losses
from federated.transport import wire


class Exchange:
    """A grid through which one round asks its clients.

    Attributes:
        up, down: bytes of replies and messages.
        wall: seconds from sending to the last reply.
        compute: seconds that each client says it took.
        lost: the replies that did not come.
    """

    def __init__(self, grid: Grid, manager: ClientManager, timeout: float) -> None:
        self._grid, self._manager, self._timeout = grid, manager, timeout
        self.up, self.down, self.wall = 0, 0, 0.0
        self.compute: list[float] = []
        self.lost: list[Loss] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Every reply, errors included, as Flower's workflows want them.

        Raises:
            ClientFailed: when a client's code raised.
        """
        started, sent = time.perf_counter(), list(messages)
        seconds = self._timeout if timeout is None else timeout
        self.down += wire.messages_bytes(sent)
        replies = list(self._grid.send_and_receive(sent, timeout=seconds)) if sent else []
        self.wall += time.perf_counter() - started
        self.up += sum(wire.message_bytes(reply) for reply in replies)
        self.lost += losses(sent, replies, self._manager.partition, self._manager.network, seconds)
        return replies

    def ask(self, messages: Iterable[Message]) -> list[Message]:
        """The answers by partition, whatever the order of their arrival; the lost ones are noted."""
        answers = [reply for reply in self.send_and_receive(messages) if reply.has_content()]
        metrics = [wire.metrics_of(answer.content) for answer in answers]
        self.compute += [m["seconds"] for m in metrics if "seconds" in m]
        return sorted(answers, key=lambda answer: self._manager.partition(answer.metadata.src_node_id))
