"""A Flower grid whose clients run in this process, one after the other: no sockets, no Ray, the same bits every time.

This is the one file that touches parts of Flower that are not public: `TaskIdentity`, which `Message()` reads its
addresses from, `Run`, and the message id that a SuperLink would set. tests/federated/test_inprocess.py holds the
contract and says what to look at when an upgrade breaks it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID, SERVER_NODE = 1, 1
_FIRST_NODE = 1000  # apart from partition numbers, so that mistaking one for the other shows

logging.getLogger("flwr").setLevel(logging.WARNING)


class InProcessGrid(Grid):
    """Calls a ClientApp for each message when it is sent; replies come back in the order asked.

    What a client's code raises is raised to whoever sends: here a failure is no lost message.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE, 1
        self._app, self._clients = app, clients
        self._run = Run.create_empty(RUN_ID)
        self._contexts: dict[int, Context] = {}
        self._replies: dict[str, Message] = {}
        self._sent = 0

    def set_run(self, run: Run) -> None:
        """Replace the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node.

        Args:
            content, message_type, dst_node_id, group_id, ttl: as Flower's `Grid` says.
        """
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """One node a partition, ascending."""
        return range(_FIRST_NODE, _FIRST_NODE + self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the client of each message now."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies, each handed out once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """The reply of every message, in the order of the messages."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        self._sent += 1
        name = str(self._sent)
        message.metadata.__dict__["_message_id"] = name
        message.content = _own_copy(message.content)
        self._replies[name] = self._answer(message)
        return name

    def _answer(self, message: Message) -> Message:
        partition = message.metadata.dst_node_id - _FIRST_NODE
        return self._app(message, self._context(message.metadata.dst_node_id, partition))

    def _context(self, node: int, partition: int) -> Context:
        if node not in self._contexts:
            config = {"partition-id": partition, "num-partitions": self._clients}
            self._contexts[node] = Context(RUN_ID, node, config, RecordDict(), {})  # type: ignore[arg-type]
        return self._contexts[node]


def _own_copy(content: RecordDict) -> RecordDict:
    """The same content with settings of its own: senders share one content, and Flower's mods take out of theirs."""
    copied = RecordDict()
    for name, record in content.items():
        copied[name] = ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record
    return copied
