"""Workers in processes of this machine, side by side: `--executor local --jobs N`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from bench.core.config import Runtime
from bench.executors.artifacts import DatasetMetadata, Missing, metadata_of, send_images, send_weights
from bench.executors.driver import Driver
from bench.executors.pool import WorkerEvent, WorkerLost, WorkerMessage, WorkerResult
from bench.executors.signals import children_hear_no_signals
from bench.executors.transfer import CellTask, pack, run_task, throttled
from bench.harness.environment import machine
from bench.harness.networks import pick_device
from bench.harness.plan import PlannedCell
from bench.harness.timing.times import FOLDER
from bench.store.layout import WORKER_LOCK

_END_SECONDS = 5.0
# Spawned, not forked: a forked child inherits locks of torch's threads, and cannot use CUDA.
_CONTEXT = get_context("spawn")


@dataclass
class _Slot:
    """A worker process and the cell that it has.

    Attributes:
        number: tells the workers of one moment apart, from 0.
        key: "" while it is idle.
    """

    number: int
    process: SpawnProcess
    connection: Connection[Any, Any]
    runtime: Runtime
    key: str = ""


class Processes:
    """The workers of this machine. Use as a context manager: leaving it ends them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._stop = _CONTEXT.Event()
        self._slots: list[_Slot] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            slot.connection.close()
        for slot in self._slots:
            # An idle worker ends at the closed connection; one that is still at work was left on purpose.
            if not slot.key:
                slot.process.join(_END_SECONDS)
            slot.process.kill()
            slot.process.join()

    def has_room(self) -> bool:
        """Whether a worker is idle, or may still be started."""
        return len(self._slots) < self._driver.runtime.jobs or any(not slot.key for slot in self._slots)

    def submit(self, cell: PlannedCell) -> None:
        """Hand a cell to an idle worker."""
        slot = next((slot for slot in self._slots if not slot.key), None) or self._start()
        slot.key = cell.key
        metadata = metadata_of(self._driver.plan.tables[cell.spec.dataset], cell.image_size)
        task = pack(cell, slot.runtime, self._driver.runtime.jobs)
        # Of a worker that died while it was idle, `poll` finds the end of its connection and tells.
        with suppress(BrokenPipeError, ConnectionResetError):
            slot.connection.send((task, metadata, self._driver.run.folder(cell.key)))

    def provide(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        """Bring what a worker lacks to where it looks: the caches of this machine are its own."""
        if "images" in missing:
            send_images(self._driver.plan.tables[cell.spec.dataset], cell.image_size)
        if "weights" in missing:
            send_weights(cell)

    def poll(self, timeout: float) -> list[WorkerMessage]:
        """What the workers said, and which of them died."""
        busy = {slot.connection: slot for slot in self._slots if slot.key}
        return [self._read(busy[ready]) for ready in wait(list(busy), timeout)]  # type: ignore[index]

    def request_stop(self) -> None:
        """Every worker looks at this after each step."""
        self._stop.set()

    def _read(self, slot: _Slot) -> WorkerMessage:
        key = slot.key
        try:
            message: WorkerMessage = slot.connection.recv()
        except (EOFError, ConnectionResetError):
            self._slots.remove(slot)
            slot.process.join(_END_SECONDS)
            return WorkerLost(key, ending(slot.process.exitcode))
        if isinstance(message, WorkerResult):
            slot.key = ""
        return message

    def _start(self) -> _Slot:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=serve, args=(theirs, self._stop), daemon=False)
        with children_hear_no_signals():
            process.start()
        theirs.close()
        number = min(set(range(self._driver.runtime.jobs)) - {slot.number for slot in self._slots})
        slot = _Slot(number, process, ours, runtime_of(self._driver.runtime, number))
        self._slots.append(slot)
        return slot


def runtime_of(runtime: Runtime, number: int) -> Runtime:
    """A worker's runtime: its share of the cores, and the GPUs in turn."""
    device = runtime.device
    if device in {"auto", "cuda"} and pick_device(runtime).type == "cuda":
        device = f"cuda:{number % torch.cuda.device_count()}"
    threads = runtime.threads or max(1, machine()["cores"] // runtime.jobs)
    return runtime.model_copy(update={"device": device, "threads": threads})


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    return f"ended with exit code {code}"


def serve(connection: Connection[Any, Any], stop: Event) -> None:
    """A worker process: run what comes until the driver closes the connection or is gone."""
    driver = parent_process()

    def should_stop() -> bool:
        return stop.is_set() or (driver is not None and not driver.is_alive())

    while True:
        try:
            task, metadata, folder = connection.recv()
        except EOFError:
            return
        try:
            _run(connection, task, metadata, folder, should_stop)
        except (BrokenPipeError, ConnectionResetError):
            return


def _run(
    connection: Connection[Any, Any],
    task: CellTask,
    metadata: DatasetMetadata,
    folder: Path,
    should_stop: Callable[[], bool],
) -> None:
    key = task.key
    # The driver holds the cell's lock. This one is for the moment after a driver was killed: another driver's worker
    # waits until the orphan has noticed and stopped.
    with FileLock(folder / WORKER_LOCK):
        on_event = throttled(lambda event: connection.send(WorkerEvent(key, event)))
        times = folder.parents[1] / FOLDER
        connection.send(WorkerResult(key, run_task(task, metadata, folder, on_event, should_stop, times)))
