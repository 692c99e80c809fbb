"""One cell after the other, in the driver's own process."""

from __future__ import annotations

import torch

from bench.executors.driver import Desk
from bench.harness.cell import run_cell
from bench.harness.inputs import CellJob
from bench.harness.plan import PlannedCell
from bench.store.failures import failure_of
from models.recipes.callbacks import Interrupted


def work_through(desk: Desk) -> None:
    """Run every cell that is left.

    Raises:
        UserError: the disk is full.
    """
    if desk.runtime.threads:
        torch.set_num_threads(desk.runtime.threads)
    while desk.left and not desk.stop():
        cell = desk.claim()
        if cell is None:
            if desk.left:
                desk.await_others()
            continue
        try:
            _run(desk, cell)
        finally:
            desk.release(cell)


def _run(desk: Desk, cell: PlannedCell) -> None:
    desk.started(cell)
    job = CellJob(
        cell,
        desk.plan.tables[cell.spec.dataset],
        desk.run.folder(cell.key),
        desk.runtime,
        lambda event: desk.event(cell, event),
        desk.stop,
    )
    failure = None
    try:
        run_cell(job)
    except Interrupted:
        return
    except Exception as error:  # noqa: BLE001 - one cell's failure must not stop the others; it is stored with its traceback
        desk.refuse_full_disk()
        failure = failure_of(cell.key, cell.spec.as_dict(), error)
    desk.ended(cell, failure)
