"""Execute a plan: the run's folder, the request to stop, and the executor that carries the cells out."""

from __future__ import annotations

from dataclasses import dataclass

from filelock import FileLock, Timeout

from bench.core.atomic import write_json
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.executors.driver import Driver, Listener, Stop
from bench.harness.environment import environment
from bench.harness.plan import Plan
from bench.store.layout import ENVIRONMENT, PLAN_LOCK
from bench.store.run import Run
from bench.store.runfile import write_run_file


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    done: int
    failed: int
    stopped: bool


def execute(plan: Plan, run: Run, runtime: Runtime, listeners: list[Listener], command: str = "") -> Summary:
    """Run every cell of a plan that is not done; cells that failed earlier are tried again.

    Several processes may execute the same run: each cell is run by whoever holds its lock.

    Args:
        plan: the cells.
        run: the folder.
        runtime: how they are run.
        listeners: hear of every event.
        command: the command line, for the folder's record.

    Raises:
        UserError: the run folder cannot be written, the disk is full, or the executor cannot do its work.
    """
    prepare_folder(plan, run, command)
    stop = Stop()
    states = _states(plan, run)
    if set(states) != {"done"}:
        with stop.listening():
            _carry_out(Driver(plan, run, runtime, listeners, stop))
        states = _states(plan, run)
    return Summary(states.count("done"), len(states) - states.count("done"), stop.requested)


def _states(plan: Plan, run: Run) -> list[str]:
    return [run.cell(cell.key, cell.spec.as_dict()).status for cell in plan.cells]


def prepare_folder(plan: Plan, run: Run, command: str) -> None:
    """Write the plan, and the environment unless the run is finished: then it stays that of its cells.

    Args:
        plan: the cells.
        run: the folder.
        command: the command line, for its record.

    Raises:
        UserError: the folder refuses.
    """
    entries = [{"key": cell.key, "cell": cell.spec.as_dict()} for cell in plan.cells]
    try:
        with FileLock(run.path / PLAN_LOCK, timeout=30):
            run.write_plan(entries, command)
            if plan.asked is not None:
                write_run_file(run.path, plan.asked.as_asked(), plan.asked.protocol)
            if not plan.cells or set(_states(plan, run)) != {"done"}:
                write_json(run.path / ENVIRONMENT, environment())
    except Timeout as error:
        raise UserError(
            f"{run.path} is locked by another process that does not let go; stop it, or use another --out"
        ) from error
    except PermissionError as error:
        raise UserError(f"{run.path} cannot be written ({error.strerror}); choose another --out") from error


def _carry_out(driver: Driver) -> None:
    """By the executor that the runtime asks for; each is imported when it is needed."""
    if driver.runtime.executor == "ray":
        from bench.executors.pool import drive
        from bench.executors.ray.cluster import Cluster

        # Ray takes the signals over when it starts.
        with Cluster.join(driver) as cluster, driver.stop.listening():
            drive(driver, cluster)
    elif driver.runtime.jobs > 1:
        from bench.executors.pool import drive
        from bench.executors.processes import Processes

        with Processes(driver) as processes:
            drive(driver, processes)
    else:
        from bench.executors.serial import work_through

        work_through(driver)
