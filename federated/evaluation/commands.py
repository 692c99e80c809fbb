"""From a finished cell to a request, and from a request to its answers: in this process, or over a consortium."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.data import registry as datasets
from bench.data.table import Table
from bench.harness.finished import FinishedCell
from bench.store.layout import PREDICTOR
from federated.evaluation.ask import RESULT, simulated
from federated.evaluation.request import REQUEST, Frozen, Rehearsal, Request, write_request


@dataclass(frozen=True)
class Asked:
    """What the command was given; see `bench fed evaluate --help`."""

    cell: Path
    on: str = ""
    partition: str = ""
    clients: int | None = None
    fewest: int = 20
    purpose: str = "external validation"
    consortium: Path | None = None
    rehearse: bool = False


def request_of(asked: Asked) -> tuple[Request, Frozen, Table | None]:
    """The request, the model, and where it is simulated or rehearsed the dataset.

    Raises:
        UserError: no such cell, or a dataset that cannot be had or dealt.
    """
    cell = FinishedCell.at(asked.cell)
    frozen = Frozen.read(cell.folder / PREDICTOR)
    common = asked.consortium is None or asked.rehearse
    sites = _consortium_sites(asked)
    rehearsal = _rehearsal(asked, cell, sites) if common else None
    table = (datasets.load(asked.on, cell.spec.protocol) if asked.on else cell.table) if common else None
    if rehearsal is not None and table is not None:
        dealt = len(rehearsal.shares(table)[0])
        if sites is not None and dealt != sites:
            raise UserError(
                f"the images are dealt to {dealt} sites, and the consortium has {sites}; give --clients {sites}"
            )
        sites = dealt
    assert sites is not None
    model, classes = cell.spec.model, cell.classes
    return Request(asked.purpose, model, frozen.sha256, classes, sites, asked.fewest, rehearsal), frozen, table


def _consortium_sites(asked: Asked) -> int | None:
    from federated.deployment.consortium import Consortium

    return None if asked.consortium is None else len(Consortium.open(asked.consortium).sites)


def _rehearsal(asked: Asked, cell: FinishedCell, sites: int | None) -> Rehearsal:
    protocol = cell.spec.protocol
    federation = protocol.federated
    return Rehearsal(
        part="all" if asked.on else "test",
        split=cell.spec.split,
        seed=cell.spec.data_seed,
        partition=asked.partition or federation.partition,
        clients=asked.clients or sites or federation.clients,
        alpha=federation.alpha,
        shards=federation.shards,
        synthetic_images=protocol.synthetic_images,
        image_size=protocol.image_size,
    )


def in_simulation(request: Request, frozen: Frozen, table: Table | None, out: Path | None) -> dict[str, Any]:
    """Ask the shares of one dataset, and write `evaluation.json` where a folder is given.

    Args:
        request: a rehearsal.
        frozen: the model.
        table: the dataset.
        out: the folder, or None.
    """
    assert table is not None
    found = simulated(request, frozen, table)
    if out is not None:
        write_request(out, request, frozen)
        write_json(out / RESULT, found)
    return found


def deployed(
    asked: Asked, request: Request, frozen: Frozen, out: Path | None, prepare: bool, patience: float, timeout: float
) -> dict[str, Any]:
    """Ask a consortium's sites, or only write the request that they are to approve.

    Args:
        asked: names the consortium.
        request: the question.
        frozen: the model.
        out: where request, model and answers are written.
        prepare: whether the request is only written.
        patience: seconds to wait for the sites.
        timeout: seconds to wait for their answers.

    Raises:
        UserError: no folder to write to, or a run that did not end well.
    """
    from federated.deployment.consortium import Consortium
    from federated.deployment.operate import follow, run_log, start_run

    if out is None or asked.consortium is None:
        raise UserError("a consortium's request needs --consortium FOLDER and a folder of its own: --out FOLDER")
    write_request(out, request, frozen)
    if prepare:
        return {"request": request.digest, "file": str(out / REQUEST)}
    made = Consortium.open(asked.consortium)
    settings = {"gather-timeout": patience, "round-timeout": timeout, "minimum-sites": 0}
    (out / RESULT).unlink(missing_ok=True)
    run = start_run(made, request.to_json(), out, settings)
    status = follow(made, run, out, lambda _: None)
    if not (out / RESULT).is_file():
        raise UserError(f"the evaluation ended as {status}: {_last_error(run_log(made, run))}")
    found: dict[str, Any] = dict(read_json(out / RESULT, dict[str, Any], "ask again"))
    for number, row in enumerate(found["sites"]):
        row["site"] = made.sites[number]
    write_json(out / RESULT, found)
    return found


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if "Error" in line or "refused" in line or "no site" in line]
    return lines[-1] if lines else "its log says no more"
