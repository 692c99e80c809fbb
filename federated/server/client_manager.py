"""Who takes part: which node serves which partition, and what it holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from bench.core.errors import UserError
from federated.client.app import HELLO
from federated.server.losses import losses
from federated.transport import wire

_POLL_SECONDS = 1.0
# A site that is silent is asked again; simulated clients share few processes and are waited for, as in a round.
_HELLO_SECONDS, _SIMULATED_SECONDS = 120.0, 3600.0


@dataclass(frozen=True)
class Member:
    """A client as it described itself; counts only."""

    node: int
    partition: int
    n_train: int
    n_val: int


class ClientManager:
    """The members by partition.

    Args:
        expected: number of partitions, 0 to expected - 1.
        resident: digest of what must be equal at every site and never travels (frozen layers).
        hello: what a client must know before it can describe itself (a deployment's task).
        network: whether a real network lies between, which may lose replies.
    """

    def __init__(self, expected: int, resident: str, hello: ConfigRecord | None = None, network: bool = False) -> None:
        self.expected, self._resident, self.network = expected, resident, network
        self._hello = hello or ConfigRecord()
        self._members: dict[int, Member] = {}
        self._alive: set[int] = set()

    def gather(self, grid: Grid, timeout: float = 300.0, minimum: int | None = None) -> None:
        """Wait until `minimum` partitions (all, where not given) have said hello.

        Args:
            grid: the nodes.
            timeout: seconds to wait.
            minimum: number of partitions.

        Raises:
            UserError: when the time is up, or a site answers with another network.
            ClientFailed: when a client's code raised instead of saying hello.
        """
        needed, deadline = minimum or self.expected, time.monotonic() + timeout
        while True:
            self.refresh(grid)
            if len(self._members) >= needed:
                return
            if time.monotonic() > deadline:
                raise UserError(self._missing(timeout))
            time.sleep(_POLL_SECONDS)

    def refresh(self, grid: Grid) -> None:
        """Ask nodes that are new who they are; forget none, so that a site that comes back is known."""
        self._alive = set(grid.get_node_ids())
        strangers = self._alive - {member.node for member in self._members.values()}
        content = RecordDict({wire.CONFIG: self._hello})
        messages = [Message(content, node, HELLO) for node in sorted(strangers)]
        seconds = _HELLO_SECONDS if self.network else _SIMULATED_SECONDS
        replies = list(grid.send_and_receive(messages, timeout=seconds)) if messages else []
        losses(messages, replies, lambda node: node, self.network, seconds)
        for reply in replies:
            if reply.has_content():
                self._welcome(reply)

    def available(self) -> list[int]:
        """Partitions whose node is connected, ascending."""
        return sorted(p for p, member in self._members.items() if member.node in self._alive)

    def with_validation(self) -> list[int]:
        """Available partitions that hold validation images."""
        return [p for p in self.available() if self._members[p].n_val > 0]

    def nodes(self, partitions: Sequence[int]) -> list[int]:
        """The nodes that serve partitions, in the same order."""
        return [self._members[partition].node for partition in partitions]

    def partition(self, node: int) -> int:
        """Which partition a node serves. Raises KeyError for a stranger."""
        return {member.node: member.partition for member in self._members.values()}[node]

    def total_examples(self) -> int:
        """Training images of all members."""
        return sum(member.n_train for member in self._members.values())

    def largest(self) -> int:
        """Training images of the largest member."""
        return max(member.n_train for member in self._members.values())

    def has_judges(self) -> bool:
        """Whether any member holds validation images."""
        return any(member.n_val > 0 for member in self._members.values())

    def _welcome(self, reply: Message) -> None:
        metrics = wire.metrics_of(reply.content)
        digest = wire.arrays_of(reply.content)["resident"].tobytes().hex()
        partition = int(metrics["partition"])
        if digest != self._resident:
            raise UserError(
                f"the site of partition {partition} built another network: its frozen layers differ; use one version "
                "and one weight file at every site"
            )
        if not 0 <= partition < self.expected:
            raise UserError(f"a site says that it is partition {partition}, and there are 0 to {self.expected - 1}")
        node = reply.metadata.src_node_id
        self._members[partition] = Member(node, partition, int(metrics["num-examples"]), int(metrics["num-val"]))

    def _missing(self, timeout: float) -> str:
        absent = [str(p) for p in range(self.expected) if p not in self._members]
        return f"after {timeout:.0f} s no site serves partition {', '.join(absent)} of {self.expected}"
