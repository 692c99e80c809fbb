"""One cell after the other, in the driver's own process."""

from __future__ import annotations

import torch

from bench.executors.driver import Driver
from bench.harness.cell import run_cell
from bench.harness.inputs import CellJob
from bench.harness.plan import PlannedCell
from bench.harness.timing.times import FOLDER
from bench.store.cells import is_done
from bench.store.failures import failure_of
from models.recipes.callbacks import Interrupted
from models.recipes.registry import RECIPES


def work_through(driver: Driver) -> None:
    """Run every cell that is left.

    Raises:
        UserError: the disk is full.
    """
    if driver.runtime.threads:
        torch.set_num_threads(driver.runtime.threads)
    timed_with = networks_left(driver)
    while driver.left and not driver.stop():
        cell = driver.claim()
        if cell is None:
            if driver.left:
                driver.await_others()
            continue
        try:
            _run(driver, cell, timed_with)
        finally:
            driver.release(cell)


def networks_left(driver: Driver) -> tuple[tuple[PlannedCell, int], ...]:
    """A cell without a result for each network that is left to be timed, with its number of classes."""
    found: dict[tuple[object, ...], tuple[PlannedCell, int]] = {}
    for cell in driver.left:
        classes = len(driver.plan.tables[cell.spec.dataset].classes)
        # A network that a fit searches for is not known yet.
        if not is_done(driver.run.folder(cell.key)) and not RECIPES.get(cell.model.recipe).searches:
            found.setdefault((cell.model, classes, cell.image_size, cell.protocol), (cell, classes))
    return tuple(found.values())


def _run(driver: Driver, cell: PlannedCell, timed_with: tuple[tuple[PlannedCell, int], ...]) -> None:
    driver.started(cell)
    job = CellJob(
        cell,
        driver.plan.tables[cell.spec.dataset],
        driver.run.folder(cell.key),
        driver.runtime,
        lambda event: driver.event(cell, event),
        driver.stop,
        times=driver.run.path / FOLDER,
        timed_with=timed_with,
    )
    failure = None
    try:
        run_cell(job)
    except Interrupted:
        return
    except Exception as error:  # noqa: BLE001 - one cell's failure must not stop the others; it is stored with its traceback
        driver.refuse_full_disk()
        failure = failure_of(cell.key, cell.spec.as_dict(), error)
    driver.ended(cell, failure)
