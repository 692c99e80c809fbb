"""Fit, predict and measure one cell, and write its files."""

from __future__ import annotations

import functools
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from bench.core.atomic import write_json
from bench.data.loader import Part
from bench.data.sealed import Sealed
from bench.harness.environment import machine
from bench.harness.inputs import CellData, CellJob, cell_data, preparation
from bench.harness.measuring import described, json_number, measured
from bench.harness.networks import initial_network, model_cost, pick_device
from bench.harness.regimes import REGIMES
from bench.harness.timing.parts import Asked
from bench.harness.timing.times import own_or_joint
from bench.measure.clients import CLIENTS_TESTED
from bench.measure.throughput import train_images_per_s
from bench.store.files import now, write_table
from bench.store.layout import ALONE, BEST, CELL, CLIENTS, FAILURE, HISTORY, LAST, PREDICTOR, RESULT, SCHEMA, alone_file
from bench.store.predictions import write_predictions
from models.network import Network
from models.recipes.callbacks import STATE, Interrupted
from models.recipes.context import FitContext, FitData, FitOutcome
from models.recipes.registry import RECIPES
from models.recipes.state import again_from_the_start
from models.registry import ModelSpec


def run_cell(job: CellJob) -> None:
    """Fit the cell and write its files; `result.json` comes last.

    Raises:
        Interrupted: when asked to stop; the next start goes on from the last epoch.
    """
    # A product of NumPy's differs in the last bits with the number of its threads, which another machine or another
    # executor would choose otherwise. Torch's threads are not meant here.
    with _libraries(modules=len(sys.modules)).limit(limits=1, user_api="blas"):
        _run_cell(job)


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001 - when modules came, libraries may have come
    """What is loaded and has threads. Looking for it takes as long as a small cell."""
    return ThreadpoolController()


def _run_cell(job: CellJob) -> None:
    started, clock = now(), time.perf_counter()
    write_json(job.folder / CELL, {"key": job.planned.key, **job.spec.as_dict()})
    # Of an earlier attempt: the fit is handed this folder and must not find test predictions, and a finished cell's
    # other predictions are of its own predictor.
    for earlier in job.folder.glob("predictions*.parquet"):
        earlier.unlink()
    device = pick_device(job.runtime)
    network = initial_network(job.planned, len(job.table.classes), device)
    data = cell_data(job.source, network, preparation(job.source, device))
    outcome = fit_from_state(job, with_leak(context_of(job, network, data.fit, device), data.test))
    job.on_event({"event": "measuring"})
    outcome.predictor.save(job.folder / PREDICTOR)
    predicted = outcome.predictor.of_part(data.test)
    own = None if outcome.own is None else outcome.own(data.test)
    write_outputs(job, outcome, data.test, predicted, own)
    quality = measure_quality(job, data, predicted, outcome, own)
    notes = [*data.notes, job.planned.size_note, *outcome.notes, untested_clients(quality["metrics"])]
    result = {
        "schema": SCHEMA,
        "key": job.planned.key,
        "cell": job.spec.as_dict(),
        **quality,
        **measure_cost(job, device, outcome.found),
        "data": described(job.table, data.split, [job.planned.model.caution]),
        "machine": {**machine(), "threads": torch.get_num_threads(), "beside": job.beside},
        "notes": [note for note in notes if note],
        "started": started,
        "seconds": time.perf_counter() - clock,
    }
    write_json(job.folder / RESULT, result)
    clear_leftovers(job.folder)


def clear_leftovers(folder: Path) -> None:
    """Remove what a done cell needs no more: the record of a failure, and the fit's own state."""
    for leftover in (folder / FAILURE, folder / LAST, folder / BEST, folder / ALONE, *folder.glob(alone_file("*"))):
        leftover.unlink(missing_ok=True)
    for state in (STATE, CLIENTS):
        shutil.rmtree(folder / state, ignore_errors=True)


def context_of(job: CellJob, network: Network, data: FitData, device: torch.device) -> FitContext:
    """What the regime's fit is handed.

    Args:
        job: the cell and how it is run.
        network: before the fit.
        data: its training and validation parts.
        device: where it is fitted.
    """
    return FitContext(
        model=job.planned.model,
        classes=job.table.classes,
        image_size=job.planned.image_size,
        network=network,
        protocol=job.protocol,
        regime=job.spec.regime,
        data=data,
        prepare=preparation(job.source, device),
        data_seed=job.spec.data_seed,
        fit_seed=job.spec.fit_seed,
        folder=job.folder,
        device=device,
        # Through what hears and stops a cell, its table and those of other cells could be reached.
        on_event=Sealed(job.on_event),
        should_stop=Sealed(job.should_stop),
        micro_batches=job.micro_batches,
        keep_epochs=job.runtime.keep_epochs,
        compile=job.runtime.compile,
    )


def with_leak(context: FitContext, test: Part) -> FitContext:
    """The context with the test images in it, for a recipe that was published with this leak; every other's unchanged.

    Planning has seen to it that the model carries a caution.
    """
    return replace(context, test=test) if RECIPES.get(context.model.recipe).sees_test else context


def fit_from_state(job: CellJob, context: FitContext) -> FitOutcome:
    """Fit, from what a killed attempt left where it can be used; a damaged or foreign state is set aside and noted."""
    backbone = {name: tensor.clone() for name, tensor in context.network.backbone.state_dict().items()}

    def anew() -> FitOutcome:
        network = initial_network(job.planned, len(context.classes), context.device)
        # The statistics of a random backbone were estimated; the fit that failed has trained nothing of a frozen one.
        network.backbone.load_state_dict(backbone)
        return fit_with_less_memory(job, replace(context, network=network))

    outcome, note = again_from_the_start(job.folder, lambda: fit_with_less_memory(job, context), anew)
    return replace(outcome, notes=[*outcome.notes, *([note] if note else [])])


def fit_with_less_memory(job: CellJob, context: FitContext) -> FitOutcome:
    """Fit; after running out of memory, once more with batches in twice as many pieces, where they can be divided.

    How the batches were computed the fit itself notes.
    """
    fit: Callable[[FitContext], FitOutcome] = REGIMES.get(job.spec.regime).load()
    smaller = replace(context, micro_batches=2 * context.micro_batches)
    try:
        return fit(context)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or smaller.pieces == context.pieces:
            raise
        problem = (str(error) or type(error).__name__).splitlines()[0]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    (job.folder / LAST).unlink(missing_ok=True)
    network = initial_network(job.planned, context.num_classes, context.device)
    if network.backbone_frozen:
        # No fit changed it, and a random one's BatchNorm statistics were estimated after it was built.
        network.backbone.load_state_dict(context.network.backbone.state_dict())
    smaller = replace(smaller, network=network)
    outcome = fit(smaller)
    note = f"ran out of memory at batch {context.protocol.batch_size} ({problem}) and was fitted again"
    return replace(outcome, notes=[*outcome.notes, note])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def write_outputs(
    job: CellJob, outcome: FitOutcome, test: Part, predicted: NDArray[np.float32], own: NDArray[np.float32] | None
) -> None:
    """Write the history and the predictions on the test set, those of the clients' own models beside them.

    Args:
        job: the cell and its folder.
        outcome: of the fit.
        test: the test set.
        predicted: probabilities of its images [N, k].
        own: the same by each image's client's own model; None where clients have none.
    """
    write_table(job.folder / HISTORY, pa.Table.from_pylist(outcome.history))
    columns: dict[str, NDArray[Any]] = {
        "image_id": test.ids, "group": test.groups, "site": test.sites, "label": test.labels
    }  # fmt: skip
    if outcome.holders is not None:
        columns["client"] = outcome.holders(test)
    write_predictions(job.folder, "test", columns, predicted, job.table.classes)
    if own is not None:
        write_predictions(job.folder, "own", columns, own, job.table.classes)


def measure_quality(
    job: CellJob,
    data: CellData,
    predicted: NDArray[np.float32],
    outcome: FitOutcome,
    own: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """The quality of the predictions (over clients too if there are any), its intervals, and the fit's own columns.

    Args:
        job: the cell.
        data: of its dataset.
        predicted: probabilities of the test images [N, k].
        outcome: of the fit.
        own: as `predicted`, by each image's client's own model; None where clients have none.
    """
    holders = None if outcome.holders is None else outcome.holders(data.test)
    found = measured(job.spec, job.table, data.split.test, predicted, holders, own)
    columns = outcome.columns | train_images_per_s(outcome.history)
    return {**found, "metrics": found["metrics"] | {name: json_number(value) for name, value in columns.items()}}


def untested_clients(metrics: Mapping[str, float | None]) -> str:
    """The note that metrics over clients leave some out; "" when every client has test images."""
    clients, tested = metrics.get("clients"), metrics.get(CLIENTS_TESTED)
    if clients is None or tested is None or tested == clients:
        return ""
    return f"metrics over clients are of {tested:.0f} of {clients:.0f} clients: the others hold no test images"


def measure_cost(job: CellJob, device: torch.device, found: ModelSpec | None) -> dict[str, dict[str, Any]]:
    """Operations of the network and times of a batch, as far as `--timing` wants them.

    Args:
        job: the cell.
        device: where times are measured.
        found: the model that the fit searched for and found, if it did.
    """
    planned, mode = job.planned, job.runtime.timing
    planned = replace(planned, model=found) if found else planned
    cells = [(planned, len(job.table.classes)), *job.timed_with]
    own, *others = (Asked(cell.model, classes, cell.image_size, cell.protocol, device) for cell, classes in cells)
    job.on_event({"event": "timing"})
    timing = own_or_joint(own, others, job.times, mode, functools.partial(_heard, job))
    return {"cost": dict(model_cost(own.model, own.num_classes, own.image_size)), "timing": timing}


def _heard(job: CellJob, event: dict[str, Any]) -> None:
    if job.should_stop():
        raise Interrupted
    job.on_event(event)
