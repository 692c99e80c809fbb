"""Workers on a Ray cluster: `--executor ray`. Results come back through the object store; no disk is shared."""

from __future__ import annotations

import io
import itertools
import logging
import os
import socket
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.core.registry import import_extra
from bench.data.table import Table
from bench.executors.artifacts import Missing, metadata_of, send_images, send_weights
from bench.executors.driver import Driver
from bench.executors.pool import WorkerEvent, WorkerLost, WorkerMessage, WorkerResult
from bench.executors.ray.resources import GIB, Resources, most_on_one_machine, resources_for
from bench.executors.ray.task import Mailbox, work
from bench.executors.transfer import BEGUN, TaskResult, pack, unfinished
from bench.harness.plan import PlannedCell
from bench.store.cells import is_done
from bench.store.failures import failure_of

_LOOK_SECONDS = 1.0
_KNOCK_SECONDS = 10.0
_RAYS_THREAD = "ray_listen_error_messages"


@dataclass
class _Attempt:
    """A cell on its way: the task's number and the reference to what it will bring."""

    number: int
    cell: PlannedCell
    reference: Any
    begun: bool = False


class Cluster:
    """The workers of a Ray cluster. Use as a context manager: leaving it disconnects.

    Attributes:
        gpu: whether cells run on GPUs.
        requested: what each cell that is left asks for, by key.
    """

    def __init__(self, driver: Driver, ours: bool) -> None:
        import ray

        self._driver = driver
        self._ours = ours
        self._machines: list[dict[str, float]] = []
        self._looked = 0.0
        self._look()
        self.gpu = _wants_gpu(driver.runtime, self._machines)
        self._runtime = _runtime_of(driver.runtime, self.gpu)
        pending = [cell for cell in driver.plan.cells if not is_done(driver.run.folder(cell.key))]
        self.requested = {cell.key: self._resources(cell) for cell in pending}
        self._refuse_what_fits_nowhere()
        self._numbers = itertools.count()
        self._attempts: dict[int, _Attempt] = {}
        self._sent: dict[tuple[str, Any], Any] = {}
        self._work: Any = ray.remote(work)
        self._mailbox: Any = _beside_the_driver(Mailbox)
        self._output: Any = sys.stdout

    @classmethod
    def join(cls, driver: Driver) -> Cluster:
        """Connect to the cluster of `--address`, of RAY_ADDRESS, or to a new one of this machine alone.

        Raises:
            UserError: the extra is not installed, nothing answers there, or a cell fits none of its machines.
        """
        import_extra("ray", "ray", "--executor ray")
        ours = _connect(driver.runtime.address)
        try:
            return cls(driver, ours)
        except UserError:
            _disconnect(ours)
            raise

    def __enter__(self) -> Cluster:
        sys.stdout = _WithoutRaylets(self._output)
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for attempt in self._attempts.values():
            ray.cancel(attempt.reference, force=True)
        _disconnect(self._ours)
        sys.stdout = self._output

    def has_room(self) -> bool:
        """Whether a machine has resources left for one more cell, or will soon: one waits in line."""
        self._look()
        if not self.requested:
            return True
        smallest = min(self.requested.values(), key=lambda wanted: (wanted.gpus, wanted.cpus, wanted.memory))
        return len(self._attempts) <= sum(smallest.fits(machine) for machine in self._machines)

    def submit(self, cell: PlannedCell) -> None:
        """Hand a cell to Ray, which finds a machine for it."""
        wanted = self.requested[cell.key]
        beside = max(1, most_on_one_machine(wanted, self._machines))
        task = pack(cell, self._runtime, beside, unfinished(self._driver.run.folder(cell.key)))
        number = next(self._numbers)
        # Losses are counted and told here, so Ray itself tries nothing again.
        options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "memory": wanted.memory, "max_retries": 0}
        pixels, weights = self._sent.get(_images(cell)), self._sent.get(_weights(cell))
        reference = self._work.options(name=cell.spec.name, **options).remote(
            task, self._metadata(cell), [pixels] if pixels else [], [weights] if weights else [], self._mailbox, number
        )
        self._attempts[number] = _Attempt(number, cell, reference)

    def provide(self, cell: PlannedCell, missing: tuple[Missing, ...]) -> None:
        """Put what a worker lacks into the object store, once; every later cell carries the reference along."""
        import ray

        if "images" in missing and _images(cell) not in self._sent:
            self._sent[_images(cell)] = ray.put(send_images(self._table(cell), cell.image_size))
        if "weights" in missing and _weights(cell) not in self._sent:
            self._sent[_weights(cell)] = ray.put(send_weights(cell))

    def poll(self, timeout: float) -> list[WorkerMessage]:
        """What the workers left in the mailbox, then what ended."""
        import ray

        pending = {attempt.reference: attempt for attempt in self._attempts.values()}
        ray.wait(list(pending), num_returns=1, timeout=timeout)
        ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        told = [self._told(number, event) for number, event in ray.get(self._mailbox.collect.remote())]
        return [*(message for message in told if message), *(self._fetch(pending[reference]) for reference in ready)]

    def request_stop(self) -> None:
        """Tell the running cells through the mailbox, and take back those that still wait for a machine."""
        import ray

        self._mailbox.stop.remote()
        for attempt in self._attempts.values():
            if not attempt.begun:
                ray.cancel(attempt.reference)

    def _told(self, number: int, event: dict[str, Any]) -> WorkerMessage | None:
        attempt = self._attempts.get(number)
        if attempt is None:
            return None
        attempt.begun = attempt.begun or event == BEGUN
        return WorkerEvent(attempt.cell.key, event)

    def _fetch(self, attempt: _Attempt) -> WorkerMessage:
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, TaskCancelledError

        del self._attempts[attempt.number]
        key = attempt.cell.key
        try:
            return WorkerResult(key, ray.get(attempt.reference))
        except TaskCancelledError:
            return WorkerResult(key, TaskResult("interrupted"))
        except RayTaskError as error:
            failure = failure_of(key, attempt.cell.spec.as_dict(), error.cause or error)
            return WorkerResult(key, TaskResult("failed", failure={**failure, "traceback": str(error)}))
        except OutOfMemoryError:
            self.requested[key] = self.requested[key].with_more_memory()
            return WorkerLost(key, f"out of memory on its machine; it asks for {self.requested[key]} now")
        except RayError as error:
            said = str(error).strip().splitlines()[0].split(". ")[0]
            return WorkerLost(key, f"{type(error).__name__}: {said}")

    def _metadata(self, cell: PlannedCell) -> Any:
        """The reference to the dataset's facts, put into the object store once."""
        import ray

        key = ("metadata", (cell.spec.dataset, cell.image_size))
        if key not in self._sent:
            self._sent[key] = ray.put(metadata_of(self._table(cell), cell.image_size))
        return self._sent[key]

    def _resources(self, cell: PlannedCell) -> Resources:
        return resources_for(cell, len(self._table(cell).classes), self._driver.runtime, self.gpu)

    def _table(self, cell: PlannedCell) -> Table:
        return self._driver.plan.tables[cell.spec.dataset]

    def _look(self) -> None:
        """See which machines there are; they come and go."""
        import ray

        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._looked = time.monotonic()

    def _refuse_what_fits_nowhere(self) -> None:
        for cell in self._driver.plan.cells:
            wanted = self.requested.get(cell.key)
            if wanted is not None and not most_on_one_machine(wanted, self._machines):
                raise UserError(
                    f"{cell.spec.name} asks for {wanted}, and no machine of the Ray cluster has that "
                    f"({_described(self._machines)}); use a larger machine, a smaller batch or fewer --threads"
                )
        if not self.gpu and any(cell.spec.protocol.precision != "32" for cell in self._driver.plan.cells):
            raise UserError("16-bit precision runs on GPUs only, and the Ray cluster has none; use --set precision=32")


class _WithoutRaylets:
    """Standard output, less what Ray's own thread prints there in many lines when a machine is lost.

    The run tells of it by itself, and with `--json` standard output is one document.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write, unless it is Ray's thread that does."""
        if threading.current_thread().name == _RAYS_THREAD:
            return len(text)
        written: int = self._file.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _images(cell: PlannedCell) -> tuple[str, Any]:
    return ("images", (cell.spec.dataset, cell.image_size))


def _weights(cell: PlannedCell) -> tuple[str, Any]:
    return ("weights", cell.weights.identity)


def _connect(address: str | None) -> bool:
    """Connect unless this process is connected already; whether it was done here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return False
    where = address or os.environ.get("RAY_ADDRESS") or ""
    try:
        _knock(where)
        # Ray's client hands what it is given on to its server, which fails over a level.
        level = {} if where.startswith("ray://") else {"logging_level": logging.ERROR}
        ray.init(address=address, log_to_driver=False, **level)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--executor ray: no cluster at {where or 'this machine'} can be used "
            f"({str(error).strip().splitlines()[0]}); start one with `ray start --head`, or leave --address away "
            "to use this machine alone (a cluster with a token needs RAY_AUTH_MODE=token and its token here too)"
        ) from error
    return True


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray itself would wait for it for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _disconnect(ours: bool) -> None:
    import ray

    if ours:
        # It prints what it held back of its messages, see `_WithoutRaylets`.
        with redirect_stdout(io.StringIO()):
            ray.shutdown()


def _beside_the_driver(actor: type) -> Any:
    """An actor on the driver's own machine, so that it is not lost with another one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=here).remote()


def _wants_gpu(runtime: Runtime, machines: list[dict[str, float]]) -> bool:
    if runtime.device.startswith("cuda:"):
        raise UserError(f"--device {runtime.device}: Ray itself deals out the GPUs; say --device cuda")
    return runtime.device == "cuda" or (runtime.device == "auto" and any(machine.get("GPU") for machine in machines))


def _runtime_of(runtime: Runtime, gpu: bool) -> Runtime:
    """A worker's runtime. It sees the GPUs that Ray gave it and no other, so that its device is the first one."""
    return runtime.model_copy(update={"device": "cuda" if gpu else "cpu", "threads": max(1, runtime.threads)})


def _described(machines: list[dict[str, float]]) -> str:
    each = [
        f"{machine.get('CPU', 0):g} CPU, {machine.get('GPU', 0):g} GPU, {machine.get('memory', 0) / GIB:.1f} GiB"
        for machine in machines
    ]
    return "; ".join(sorted(set(each))) or "it has no machine"
