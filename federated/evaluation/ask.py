"""The asker's side: a request to every site of a grid, and what came back, pooled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from bench.core.errors import UserError
from bench.data.table import Table
from federated.evaluation.answer import read_answer
from federated.evaluation.app import ANSWER, FROZEN, PARTITION, REFUSED, Site, answer_requests
from federated.evaluation.pooling import pooled
from federated.evaluation.request import Frozen, Request, Rows
from federated.server.losses import reason
from federated.simulation.inprocess import InProcessGrid
from federated.transport import wire

RESULT = "evaluation.json"
FEW_SITES = 5
_POLL_SECONDS = 1.0


def ask(
    grid: Grid, request: Request, frozen: Frozen, names: Sequence[str], timeout: float, network: bool, gather: float = 0
) -> dict[str, Any]:
    """Put a request to every site that is there.

    Args:
        grid: what reaches the sites.
        request: the question; frozen: the model that it is about.
        names: the sites' names by partition.
        timeout: seconds to wait for the answers; gather: for the sites to connect.
        network: whether a real network lies between, which may lose replies.

    Returns:
        `request` (its digest), `model`, `sites`: a row each with `site`, `status` (answered, refused or lost), `why`
        and the answer; `pooled`: see `pooling.pooled`; `notes`.

    Raises:
        UserError: no site answered.
    """
    nodes = _gathered(grid, request.sites, gather)
    content = RecordDict({
        wire.CONFIG: ConfigRecord({"request": request.to_json()}),
        wire.ARRAYS: _record(frozen),
    })  # fmt: skip
    messages = [Message(content, node, FROZEN) for node in nodes]
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.send_and_receive(messages, timeout=timeout)}
    rows, lost = {}, []
    for message in messages:
        reply = replies.get(message.metadata.message_id)
        if reply is None or not reply.has_content():
            lost.append(reason(reply, network, timeout))
        else:
            told = wire.config_of(reply.content)
            number = int(told[PARTITION])  # type: ignore[arg-type]
            rows[number] = _told(told, names[number])
    silent = [number for number in range(request.sites) if number not in rows]
    why = "; ".join(dict.fromkeys(lost)) or "not connected"
    rows |= {number: {"status": "lost", "why": why} for number in silent}
    return _result(request, names, rows)


def _told(told: ConfigRecord, site: str) -> dict[str, Any]:
    if REFUSED in told:
        return {"status": REFUSED, "why": str(told[REFUSED])}
    return {"status": "answered", "why": "", **read_answer(str(told[ANSWER]), site)}


def _result(request: Request, names: Sequence[str], rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
    sites = [{"site": names[number], **rows[number]} for number in sorted(rows)]
    answers = [row for row in sites if row["status"] == "answered"]
    if not answers:
        raise UserError("no site answered: " + "; ".join(f"{row['site']}: {row['why']}" for row in sites))
    notes = [f"{row['site']}: {row['status']}, {row['why']}" for row in sites if row["why"]]
    if 1 < len(answers) < FEW_SITES:
        notes.append(f"{len(answers)} sites tell little of how sites differ: tau^2 and I^2 are rough")
    return {
        "request": request.digest, "model": request.model, "sites": sites, "pooled": pooled(answers), "notes": notes,
    }  # fmt: skip


def _record(frozen: Frozen) -> ArrayRecord:
    parts = {"about": frozen.about, "weights": frozen.weights}
    return wire.to_record({name: np.frombuffer(data, np.uint8) for name, data in parts.items()})


def _gathered(grid: Grid, sites: int, seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while len(nodes := sorted(grid.get_node_ids())) < sites and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if not nodes:
        raise UserError(f"no site connected within {seconds:.0f} s")
    return nodes


def simulated(request: Request, frozen: Frozen, table: Table) -> dict[str, Any]:
    """A request to the shares of one dataset of this machine, by the same app; nobody need approve it.

    Args:
        request: a rehearsal.
        frozen: the model.
        table: the dataset.
    """
    if request.rehearsal is None:
        raise ValueError("a simulation needs to know whose images are whose")
    names, shares = request.rehearsal.shares(table)
    app = ClientApp()

    def find(context: Any) -> Site:
        partition = int(context.node_config["partition-id"])
        return Site(partition, lambda _: None, lambda _: (table, shares[partition]))

    answer_requests(app, find)
    return ask(InProcessGrid(app, len(shares)), request, frozen, names, 3600.0, network=False)


def own_rows(request: Request, table: Table, partition: int) -> Rows:
    """The rows that a site answers on: all of its dataset's, or in a rehearsal its share of a common one.

    Args:
        request: says whether it is a rehearsal.
        table: the site's dataset.
        partition: the site's number.

    Raises:
        UserError: the rehearsal has another number of sites.
    """
    if request.rehearsal is None:
        return np.arange(len(table))
    names, shares = request.rehearsal.shares(table)
    if len(names) != request.sites:
        raise UserError(f"the dataset is dealt to {len(names)} clients, and {request.sites} sites are asked")
    return shares[partition]


def lead_request(grid: Grid, text: str, folder: Path, settings: Any) -> dict[str, Any]:
    """Ask a consortium's sites, as its server app does; writes `evaluation.json` into the folder of the request.

    Args:
        grid: what reaches the sites.
        text: the request.
        folder: the model lies in it.
        settings: `gather-timeout` and `round-timeout` in seconds.
    """
    from bench.core.atomic import write_json
    from federated.evaluation.request import MODEL

    request, frozen = Request.from_json(text), Frozen.read(folder / MODEL)
    names = [f"site {number}" for number in range(request.sites)]
    waits = float(settings["round-timeout"]), float(settings["gather-timeout"])
    found = ask(grid, request, frozen, names, waits[0], network=True, gather=waits[1])
    write_json(folder / RESULT, found)
    return found
