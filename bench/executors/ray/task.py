"""What a Ray worker executes. Imports nothing heavy, so that the environment is set before torch is loaded."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# As the command line does for its own process: threads that spin while they wait starve the cells beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from bench.executors.artifacts import DatasetMetadata
    from bench.executors.transfer import CellTask, TaskResult

_ASK_SECONDS = 0.5


class Mailbox:
    """An actor beside the driver: workers leave their messages here and learn whether they are to stop."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, dict[str, Any]]] = []
        self._stopping = False

    def post(self, number: int, event: dict[str, Any]) -> bool:
        """Leave an event of attempt `number`; whether the driver wants everybody to stop."""
        self._letters.append((number, event))
        return self._stopping

    def ask(self) -> bool:
        """Whether the driver wants everybody to stop."""
        return self._stopping

    def collect(self) -> list[tuple[int, dict[str, Any]]]:
        """Take out what was left since the last time."""
        letters, self._letters = self._letters, []
        return letters

    def stop(self) -> None:
        """Tell whoever asks from now on to stop."""
        self._stopping = True


class Line:
    """A task's connection to the mailbox; a mailbox that is gone went with its driver, and Ray ends the task then."""

    def __init__(self, mailbox: Any, number: int) -> None:
        self._mailbox = mailbox
        self._number = number
        self._asked = 0.0
        self._answer: Any = None
        self._stopping = False

    def post(self, event: dict[str, Any]) -> None:
        """Send without waiting."""
        self._answer = self._mailbox.post.remote(self._number, event)

    def should_stop(self) -> bool:
        """What the mailbox last answered; it is asked now and then, and never waited for."""
        import ray

        if time.monotonic() - self._asked < _ASK_SECONDS:
            return self._stopping
        self._asked = time.monotonic()
        if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            self._stopping = self._stopping or bool(ray.get(self._answer))
            self._answer = None
        if self._answer is None:
            self._answer = self._mailbox.ask.remote()
        return self._stopping


def work(
    task: CellTask, metadata: DatasetMetadata, pixels: list[Any], weights: list[Any], mailbox: Any, number: int
) -> TaskResult:
    """Run a cell in a folder of the worker's own and bring all its files.

    Args:
        task: the cell.
        metadata: of its dataset, without the images.
        pixels, weights: a reference to what the driver put into the object store, or empty; fetched if needed.
        mailbox: the actor that takes events and tells whether to stop.
        number: of this attempt.
    """
    import ray

    from bench.data.images.cache import are_cached
    from bench.executors.artifacts import find_weights, receive_images, receive_weights
    from bench.executors.transfer import collect, commit, run_task, throttled

    line = Line(mailbox, number)
    folder = Path(tempfile.mkdtemp(prefix="bench-cell-"))
    try:
        if pixels and not are_cached(metadata.table, metadata.size):
            receive_images(metadata, ray.get(pixels[0]))
        if weights and find_weights(task.weights) is None:
            receive_weights(task.weights, ray.get(weights[0]))
        commit(folder, task.files)
        result = run_task(task, metadata, folder, throttled(line.post), line.should_stop)
        return replace(result, files={} if result.status in {"failed", "missing"} else collect(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
