"""The ClientApp: Flower's messages in front of a `Client`. The same app runs on every kind of grid."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

import numpy as np
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bench.core.errors import UserError
from federated.client.client import Client, work_from_json
from federated.server.losses import DRAWN, FAILED, DroppedOut
from federated.transport import wire
from federated.transport.secure import fit_secretly, is_secure

_LOG = logging.getLogger("federated.client")
MakeClient = Callable[[Message, Context], Client]
HELLO, PERSONAL = "query.hello", "query.personal"


def client_app(make_client: MakeClient, tell: Callable[[Exception], str] | None = None) -> ClientApp:
    """The app of one client.

    Args:
        make_client: finds the client that a message is for; called for each message, so it remembers what is dear.
            A DroppedOut from it becomes the reply that tells of a drawn loss.
        tell: what the server hears of a failure in a client's code, in the reply. Without it the exception is raised to
            whoever called the app, which is for clients in the server's own process.
    """
    app = ClientApp(mods=[_reporter(tell)])

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        if is_secure(message):
            return fit_secretly(message, context, make_client)
        return Message(_fit(make_client(message, context), message.content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = make_client(message, context)
        round_number = _round(message.content)
        metrics = client.evaluate(round_number, wire.arrays_of(message.content))
        return Message(RecordDict({wire.METRICS: MetricRecord(dict(metrics))}), reply_to=message)

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        client = make_client(message, context)
        content = RecordDict({wire.METRICS: MetricRecord(dict(client.describe()))})
        digest = np.frombuffer(bytes.fromhex(client.packing.resident_digest()), np.uint8)
        content[wire.ARRAYS] = wire.to_record({"resident": digest})
        return Message(content, reply_to=message)

    @app.query("personal")
    def personal(message: Message, context: Context) -> Message:
        client = make_client(message, context)
        if client.withholds:
            raise UserError("this client's own layers stay here: under differential privacy no noise would cover them")
        vector = client.personal(_round(message.content))
        content = RecordDict({wire.ARRAYS: wire.to_record({"personal": vector})})
        content[wire.METRICS] = MetricRecord({"num-examples": client.data.n_train})
        return Message(content, reply_to=message)

    return app


def whole_traceback(error: Exception) -> str:
    """All of a failure, for simulations: it may name files."""
    return "".join(traceback.format_exception(error))


def _reporter(tell: Callable[[Exception], str] | None) -> Callable[..., Message]:
    def report(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        who = f"client {context.node_config['partition-id']} ({message.metadata.message_type}):"
        try:
            return call_next(message, context)
        except DroppedOut as drawn:
            return Message(Error(DRAWN, str(drawn)), reply_to=message)
        except Exception as error:
            if tell is None:
                error.add_note(f"raised by {who.rstrip(':')}")
                raise
            _LOG.exception("this client failed")
            return Message(Error(FAILED, f"{who} {tell(error)}"), reply_to=message)

    return report


def _fit(client: Client, content: RecordDict) -> RecordDict:
    work = work_from_json(str(wire.config_of(content)["work"]))
    arrays, metrics = client.fit(work, wire.arrays_of(content))
    return RecordDict({wire.ARRAYS: wire.to_record(arrays), wire.METRICS: MetricRecord(dict(metrics))})


def _round(content: RecordDict) -> int:
    return int(wire.config_of(content)["server-round"])  # type: ignore[arg-type]
