"""One cell after the other, in the driver's own process."""

from __future__ import annotations

import torch

from bench.executors.driver import Desk, failure_of
from bench.harness.cell import run_cell
from bench.harness.inputs import CellJob
from bench.harness.plan import PlannedCell
from bench.harness.timing import FOLDER
from bench.store.run import is_done
from models.recipes.callbacks import Interrupted


def work_through(desk: Desk) -> None:
    """Run every cell that is left.

    Raises:
        UserError: the disk is full.
    """
    if desk.runtime.threads:
        torch.set_num_threads(desk.runtime.threads)
    timed_with = networks_left(desk)
    while desk.left and not desk.stop():
        cell = desk.claim()
        if cell is None:
            if desk.left:
                desk.await_others()
            continue
        try:
            _run(desk, cell, timed_with)
        finally:
            desk.release(cell)


def networks_left(desk: Desk) -> tuple[tuple[PlannedCell, int], ...]:
    """A cell without a result for each network that is left to be timed, with its number of classes."""
    found: dict[tuple[object, ...], tuple[PlannedCell, int]] = {}
    for cell in desk.left:
        classes = len(desk.plan.tables[cell.spec.dataset].classes)
        if not is_done(desk.run.folder(cell.key)):
            found.setdefault((cell.model, classes, cell.image_size, cell.protocol), (cell, classes))
    return tuple(found.values())


def _run(desk: Desk, cell: PlannedCell, timed_with: tuple[tuple[PlannedCell, int], ...]) -> None:
    desk.started(cell)
    job = CellJob(
        cell,
        desk.plan.tables[cell.spec.dataset],
        desk.run.folder(cell.key),
        desk.runtime,
        lambda event: desk.event(cell, event),
        desk.stop,
        times=desk.run.path / FOLDER,
        timed_with=timed_with,
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
