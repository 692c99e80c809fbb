"""A trial of a sweep: a cell that is fitted and judged on the validation part, and never handed the test set."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import torch
from filelock import FileLock

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.data.loader import Part
from bench.harness.cell import context_of, fit_from_state
from bench.harness.inputs import CellJob, fitting_data, preparation
from bench.harness.measuring import json_number
from bench.harness.networks import initial_network, model_cost, pick_device
from bench.harness.timing.parts import Asked
from bench.harness.timing.times import timing_row
from bench.measure.extra import extra_quality
from bench.measure.quality import quality
from bench.measure.throughput import train_images_per_s
from bench.store.files import now, read_trial, write_table
from bench.store.layout import BEST, CELL, CELL_LOCK, HISTORY, LAST, TRIAL
from models.recipes.callbacks import Interrupted
from models.recipes.context import FitOutcome
from models.recipes.registry import RECIPES


def run_trial(job: CellJob, timed: bool) -> dict[str, float | None]:
    """Fit the cell as `run_cell` does, with the same seeds, and return its columns on the validation part.

    A finished trial answers from its file; a stopped one goes on from its last epoch.

    Args:
        timed: also measure the times of a batch.

    Raises:
        Interrupted: when asked to stop.
        ValueError: the protocol refits, and the columns would be of images that were trained on.
    """
    if job.protocol.refit:
        raise ValueError(f"the trial {job.planned.key} would refit on the validation images that it is judged by")
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder / CELL_LOCK):
        if not (job.folder / TRIAL).is_file():
            _fit_unless_ended(job)
    columns: dict[str, float | None] = read_trial(job.folder / TRIAL)["columns"]
    planned, classes = job.planned, len(job.table.classes)
    searches = RECIPES.get(planned.model.recipe).searches
    if timed and searches:
        raise UserError(f"{planned.model.name} has no batch times before its fit: its network is found by the search")
    found = {} if searches else dict(model_cost(planned.model, classes, planned.image_size))
    if timed:
        job.on_event({"event": "timing"})
        device = pick_device(job.runtime)
        asked = Asked(planned.model, classes, planned.image_size, job.protocol, device)
        found |= timing_row(asked, job.times, job.runtime.timing, job.on_event)
    return columns | {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


def _fit_unless_ended(job: CellJob) -> None:
    """Fit; a fit that ends for good (pruned, failed) leaves no state to go on from, a stopped or killed one does."""
    try:
        _fit_and_write(job)
    except Interrupted:
        raise
    except Exception:
        _clear(job)
        raise


def _clear(job: CellJob) -> None:
    for leftover in (BEST, LAST):
        (job.folder / leftover).unlink(missing_ok=True)


def _fit_and_write(job: CellJob) -> None:
    started, clock = now(), time.perf_counter()
    write_json(job.folder / CELL, {"key": job.planned.key, **job.spec.as_dict()})
    device = pick_device(job.runtime)
    network = initial_network(job.planned, len(job.table.classes), device)
    data = fitting_data(job.source, network, preparation(job.source, device))
    outcome = fit_from_state(job, context_of(job, network, data, device))
    columns = {**_validated(job, outcome, data.val), "seconds": time.perf_counter() - clock}
    if outcome.found:
        counted = model_cost(outcome.found, len(job.table.classes), job.planned.image_size)
        columns |= {name: value for name, value in counted.items() if isinstance(value, float)}
    write_table(job.folder / HISTORY, pa.Table.from_pylist(outcome.history))
    cell: dict[str, Any] = {"key": job.planned.key, "cell": job.spec.as_dict(), "started": started}
    write_json(job.folder / TRIAL, {**cell, "columns": columns, "notes": outcome.notes})
    # The chosen protocol is fitted again as an ordinary cell; a sweep's weights would only fill the disk.
    _clear(job)
    del network
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _validated(job: CellJob, outcome: FitOutcome, val: Part) -> dict[str, float | None]:
    predicted = outcome.predictor.of_part(val)
    found = quality(val.labels, predicted, job.table.classes) | extra_quality(val.labels, predicted)
    found |= outcome.columns | train_images_per_s(outcome.history)
    return {name: json_number(value) for name, value in found.items()}
