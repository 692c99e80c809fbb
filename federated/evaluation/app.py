"""A client app's side of a request: consent first, then the model, then the images; counts and metrics go back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from bench.core.errors import UserError
from bench.core.identity import canonical
from bench.data.images.cache import images as cached_images
from bench.data.table import Table
from federated.evaluation.answer import answer_of
from federated.evaluation.approval import Refused
from federated.evaluation.request import Frozen, Request, Rows
from federated.transport import wire
from models.predictor import load

FROZEN = "query.frozen"
ANSWER, REFUSED, PARTITION = "answer", "refused", "partition"


@dataclass(frozen=True)
class Site:
    """A site as it meets a request.

    Attributes:
        consents: raises Refused where the site does not; called before anything else.
        images: the dataset and the rows that are the site's, opened after that.
    """

    partition: int
    consents: Callable[[Request], None]
    images: Callable[[Request], tuple[Table, Rows]]


FindSite = Callable[[Context], Site]


def answer_requests(app: ClientApp, find: FindSite) -> None:
    """Let an app answer requests. What `find`, the model or the images raise goes the app's own way of failures."""

    @app.query(FROZEN.partition(".")[2])
    def frozen(message: Message, context: Context) -> Message:
        site = find(context)
        told: dict[str, Any] = {PARTITION: site.partition}
        try:
            told[ANSWER] = canonical(_answered(site, message.content))
        except Refused as refusal:
            told[REFUSED] = str(refusal)
        return Message(RecordDict({wire.CONFIG: ConfigRecord(told)}), reply_to=message)


def _answered(site: Site, content: RecordDict) -> dict[str, Any]:
    try:
        request = Request.from_json(str(wire.config_of(content)["request"]))
    except UserError as error:  # no JSON of ours, or another version's: nothing of the site is in the sentence
        raise Refused(str(error)) from error
    site.consents(request)
    arrays = wire.arrays_of(content)
    frozen = Frozen(arrays["about"].tobytes(), arrays["weights"].tobytes())
    if frozen.sha256 != request.sha256:
        raise Refused("the model that came is not the one of the request")
    table, rows = site.images(request)
    if tuple(table.classes) != request.classes:
        raise Refused("this site's dataset has other classes than the model")
    if len(rows) < request.fewest:
        raise Refused(f"this site holds fewer than {request.fewest} images")
    probabilities = _predicted(frozen, table, rows)
    return answer_of(table.labels[rows], probabilities, table.groups[rows], request.classes)


def _predicted(frozen: Frozen, table: Table, rows: Rows) -> np.ndarray[Any, Any]:
    """The model's answers [N, k]; nothing of it is kept, and nothing of it is executed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(prefix="bench-frozen-") as folder:
        frozen.write(Path(folder))
        predictor = load(Path(folder), device)
    if predictor.card.classes != tuple(table.classes):
        raise UserError("the model names other classes than its request")
    return predictor.of_images(cached_images(table, predictor.card.image_size)[rows])
