"""Replies that do not come: which are lost, and which are a client's failure.

A reply is lost only where a simulation draws the loss itself, or where a real network loses it. Everything else that is
no answer is a client whose code failed, and fails the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, MessageType
from flwr.common.constant import ErrorCode

from bench.core.errors import UserError

DRAWN, FAILED = 201, 202  # apart from Flower's own codes, which are small
_NETWORK = {
    ErrorCode.MESSAGE_UNAVAILABLE: "the message expired before an answer came",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "the reply was lost on its way",
    ErrorCode.NODE_UNAVAILABLE: "the site could not be reached",
}
_FEW = 6
_WRITTEN = re.compile(r"client (\d+) \((.*?)\): (.*)")


class DroppedOut(Exception):
    """A client that a simulation loses on purpose; it costs its reply."""


class ClientFailed(Exception):
    """A client's code raised.

    Args:
        told: who it is and what it tells: a traceback in a simulation, which becomes the exception's note.
    """

    def __init__(self, told: str) -> None:
        lines = [line.strip() for line in told.splitlines() if line.strip()] or ["a client failed and told no reason"]
        super().__init__(" ".join(dict.fromkeys((lines[0], lines[-1]))))
        if len(lines) > 1:
            self.add_note(told)


@dataclass(frozen=True)
class Loss:
    """A reply that did not come.

    Attributes:
        asked: what the client was asked: `train`, `evaluate`, ...
    """

    partition: int
    asked: str
    why: str

    def __str__(self) -> str:
        return f"client {self.partition} ({self.asked}): {self.why}"


def losses(
    messages: Sequence[Message],
    replies: Iterable[Message],
    partition_of: Callable[[int], int],
    network: bool,
    timeout: float,
) -> list[Loss]:
    """The messages without an answer, each with its reason.

    Args:
        partition_of: the partition that a node serves.
        network: whether a real network lies between, which may lose replies.
        timeout: seconds that were waited.

    Raises:
        ClientFailed: an error that is neither a drawn loss nor the network's.
    """
    # An error may come from the SuperLink in the name of a node, so a reply is known by the message that it answers.
    answers = {reply.metadata.reply_to_message_id: reply for reply in replies}
    found = []
    for message in messages:
        reply = answers.get(message.metadata.message_id)
        if reply is None or not reply.has_content():
            why = reason(reply, network, timeout)
            found.append(Loss(partition_of(message.metadata.dst_node_id), message.metadata.message_type, why))
    return found


def reason(reply: Message | None, network: bool, timeout: float) -> str:
    """Why there is no answer.

    Args:
        reply: an error, or None where nothing came.
        network: whether a real network lies between.
        timeout: seconds that were waited.

    Raises:
        ClientFailed: what is neither a drawn loss nor the network's.
    """
    if reply is None:
        if network:
            return f"no reply within {timeout:.0f} s"
        raise ClientFailed(f"a client did not answer within {timeout:.0f} s")
    if reply.error.code == DRAWN:
        return str(reply.error.reason)
    if network and reply.error.code in _NETWORK:
        return _NETWORK[reply.error.code]
    raise ClientFailed(str(reply.error.reason or ""))


def written(found: Iterable[Loss]) -> str:
    """Losses by partition as a history row holds them; "" for none."""
    ordered = sorted(found, key=lambda loss: loss.partition)
    return "; ".join(" ".join(str(loss).replace(";", ",").split()) for loss in ordered)


def asked_in(row: Mapping[str, Any]) -> set[int]:
    """The partitions that a round's row says were asked to train: those that answered, and those that were lost."""
    answered = {int(partition) for partition in str(row.get("answered") or "").split(",") if partition}
    return answered | {partition for partition, asked, _ in _told(row) if asked == MessageType.TRAIN}


def _told(row: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """A row's losses: partition, what was asked, why."""
    found = []
    for text in filter(None, str(row.get("lost") or "").split("; ")):
        matched = _WRITTEN.fullmatch(text)
        assert matched is not None, text
        found.append((int(matched[1]), matched[2], matched[3]))
    return found


def history_notes(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a result must say of its history: rounds without an update, and who was lost, when and why."""
    notes = []
    if all(row["val_accuracy"] is None for row in history):
        notes.append("no client holds validation images: the model of the last round with an update is the one tested")
    skipped = [row["round"] for row in history if row.get("skipped")]
    if skipped:
        notes.append(f"no update arrived in {_rounds(skipped)}: skipped, the model stayed as it was")
    reasons: dict[tuple[str, str], dict[int, list[int]]] = {}
    for row in history:
        for partition, asked, why in _told(row):
            reasons.setdefault((asked, why), {}).setdefault(partition, []).append(row["round"])
    return notes + [_reason_note(*reason, where, len(history)) for reason, where in reasons.items()]


def _reason_note(asked: str, why: str, where: Mapping[int, Sequence[int]], rounds: int) -> str:
    if len(where) <= _FEW:
        who = ", ".join(f"client {client} in {_rounds(numbers)}" for client, numbers in sorted(where.items()))
    else:
        count = len({number for numbers in where.values() for number in numbers})
        who = f"{sum(map(len, where.values()))} replies of {len(where)} clients in {count} of {rounds} rounds"
    return f"lost ({asked}): {who}: {why}"


def _rounds(numbers: Sequence[int]) -> str:
    if len(numbers) > _FEW:
        return f"{len(numbers)} rounds"
    return f"round{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def refuse_without_update(history: Sequence[Mapping[str, Any]], best_round: int) -> None:
    """Refuse a training that ended without a model to test.

    Raises:
        UserError: no client's update was ever aggregated, or no aggregated model was ever evaluated.
    """
    last = next((str(row["lost"]) for row in reversed(history) if row.get("lost")), "")
    why = f"; the last loss: {last.split('; ')[-1]}" if last else ""
    why += "; lower federated.dropout_rate, or see why the sites were lost and start with a new --out"
    if all(row["clients_answered"] == 0 for row in history):
        raise UserError(f"no client's update was aggregated in {len(history)} rounds, so nothing was trained{why}")
    if best_round == 0:
        raise UserError(f"no evaluation was answered in {len(history)} rounds, so no round can be chosen{why}")
