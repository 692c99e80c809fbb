"""The ClientApp: Flower's messages in front of `federated.client.Client`. The same app runs on every kind of grid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federated import wire
from federated.client import Client, work_from_json
from federated.secure import fit_secretly, is_secure

_LOG = logging.getLogger("federated.client")
MakeClient = Callable[[Message, Context], Client]
HELLO, PERSONAL = "query.hello", "query.personal"


class ClientFailure(Exception):
    """A failure with no word of the client's files."""


def client_app(make_client: MakeClient, discreet: Callable[[Exception], str] | None = None) -> ClientApp:
    """The app of one client.

    Args:
        make_client: finds the client that a message is for; called for each message, so it remembers what is dear.
        discreet: what may be told of a failure. Without it the exception itself is told, and that may name files.
    """
    app = ClientApp(mods=[_silencer(discreet)] if discreet else [])

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
        vector = client.personal(_round(message.content))
        content = RecordDict({wire.ARRAYS: wire.to_record({"personal": vector})})
        content[wire.METRICS] = MetricRecord({"num-examples": client.data.n_train})
        return Message(content, reply_to=message)

    return app


def _silencer(discreet: Callable[[Exception], str]) -> Callable[..., Message]:
    def silence(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        try:
            return call_next(message, context)
        except Exception as error:  # noqa: BLE001 - every failure's text may name a file of the site
            _LOG.exception("this client failed")
            raise ClientFailure(discreet(error)) from None

    return silence


def _fit(client: Client, content: RecordDict) -> RecordDict:
    config = wire.config_of(content)
    work = work_from_json(str(config["work"]))
    if "proximal-mu" in config:  # Flower's FedProx puts it there
        work = replace(work, proximal_mu=float(config["proximal-mu"]))  # type: ignore[arg-type]
    arrays, metrics = client.fit(work, wire.arrays_of(content))
    return RecordDict({wire.ARRAYS: wire.to_record(arrays), wire.METRICS: MetricRecord(dict(metrics))})


def _round(content: RecordDict) -> int:
    return int(wire.config_of(content)["server-round"])  # type: ignore[arg-type]
