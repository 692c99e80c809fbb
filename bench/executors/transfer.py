"""A cell as it travels to a worker and back.

Names and values only: nothing in a task has to be importable before the plugins are loaded, and the worker makes
the cell anew from what it was called. That the worker's own code then arrives at the same key is what proves that both
mean the same cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

import bench
from bench.core.atomic import write_bytes
from bench.core.cellspec import CellSpec
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_source
from bench.executors.artifacts import DatasetMetadata, Missing, find_table, find_weights
from bench.harness.cell import clear_leftovers, run_cell
from bench.harness.inputs import CellJob
from bench.harness.plan import PlannedCell, plan_cell
from bench.store.failures import failure_of
from bench.store.layout import CELL, FAILURE, HISTORY, PREDICTIONS, PREDICTOR, RESULT, TRACKING
from models.recipes.callbacks import Interrupted, OnEvent
from models.weights.initial import ResolvedWeights

BEGUN = {"event": "begun"}
_TELL_SECONDS = 0.2
_NOT_STATE = {CELL, FAILURE, HISTORY, PREDICTIONS, PREDICTOR, RESULT, TRACKING}
_FREQUENT = {"batch", "features"}


@dataclass(frozen=True)
class CellTask:
    """What a worker needs to know of a cell.

    Attributes:
        plugins: the source text of every plugin file that the driver loaded, by path.
        beside: how many cells may be running on the worker's machine.
        files: the state of an earlier, stopped attempt, by path in the cell's folder.
    """

    key: str
    spec: CellSpec
    weights: ResolvedWeights
    runtime: Runtime
    beside: int
    files: dict[str, bytes] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=lambda: dict(PLUGINS))
    version: str = bench.__version__


@dataclass(frozen=True)
class TaskResult:
    """What a worker brings back.

    Attributes:
        missing: what the driver must bring before the cell can run there.
        failure: the record of why it failed.
        files: the cell's files, by path in its folder; empty where worker and driver share the folder.
    """

    status: Literal["done", "failed", "interrupted", "missing"]
    missing: tuple[Missing, ...] = ()
    failure: dict[str, Any] | None = None
    files: dict[str, bytes] = field(default_factory=dict)


def pack(cell: PlannedCell, runtime: Runtime, beside: int, files: dict[str, bytes] | None = None) -> CellTask:
    """Make a cell ready to travel.

    Args:
        cell: what is to run.
        runtime: of the run.
        beside: cells that run on the machine at once.
        files: a state to resume from, by file name.
    """
    return CellTask(cell.key, cell.spec, cell.weights, runtime, beside, files or {})


def run_task(
    task: CellTask,
    metadata: DatasetMetadata,
    folder: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    times: Path | None = None,
) -> TaskResult:
    """Run a task's cell in a folder, on the worker; whatever goes wrong with the cell is part of the result.

    Args:
        task: the cell.
        metadata: of its dataset, without the images.
        folder: the worker's own.
        on_event: hears of every event of the fit.
        should_stop: asked after every batch.
        times: where the run keeps batch times, if the worker can see it.
    """
    if task.runtime.threads:
        torch.set_num_threads(task.runtime.threads)
    try:
        _same_version(task)
        for path, text in task.plugins.items():
            load_source(path, text)
        table, weights = find_table(task.spec, metadata), find_weights(task.weights)
        if table is None or weights is None:
            found: dict[Missing, object] = {"images": table, "weights": weights}
            return TaskResult("missing", missing=tuple(name for name, thing in found.items() if thing is None))
        planned = plan_cell(task.spec, table, weights)
        _same_cell(task, planned)
        on_event(BEGUN)
        job = CellJob(planned, table, folder, task.runtime, on_event, should_stop, times=times)
        run_cell(replace(job, beside=task.beside))
    except Interrupted:
        return TaskResult("interrupted")
    except Exception as error:  # noqa: BLE001 - one cell's failure must not stop the others; it is stored with its traceback
        return TaskResult("failed", failure=failure_of(task.key, task.spec.as_dict(), error))
    return TaskResult("done")


def unfinished(folder: Path) -> dict[str, bytes]:
    """What a stopped attempt left in a cell's folder, for another worker to go on from; empty at a first attempt."""
    return {name: content for name, content in collect(folder).items() if Path(name).parts[0] not in _NOT_STATE}


def collect(folder: Path) -> dict[str, bytes]:
    """The files of a cell's folder by relative path, without locks and half-written ones."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def commit(folder: Path, files: dict[str, bytes]) -> None:
    """Write a task's files, `result.json` last: a driver that is killed in between leaves a cell that is not done."""
    for name in sorted(files, key=lambda name: name == RESULT):
        write_bytes(folder / name, files[name])
    if RESULT in files:
        clear_leftovers(folder)


def throttled(on_event: OnEvent) -> OnEvent:
    """Pass on events, those that come with every batch only now and then."""
    said = 0.0

    def tell(event: dict[str, Any]) -> None:
        nonlocal said
        if event["event"] in _FREQUENT and time.monotonic() - said < _TELL_SECONDS:
            return
        said = time.monotonic()
        on_event(event)

    return tell


def _same_version(task: CellTask) -> None:
    if bench.__version__ != task.version:
        raise UserError(
            f"a worker has deepmedix-bench {bench.__version__}, the driver {task.version}; "
            "install one version on every machine"
        )


def _same_cell(task: CellTask, planned: PlannedCell) -> None:
    if planned.key != task.key:
        raise UserError(
            f"a worker understands {planned.spec.name} as another cell ({planned.key}, not {task.key}): its code "
            "of the model or the dataset differs; install the same packages on every machine"
        )
