"""The same simulation on Flower's Ray back-end (the extra `ray`): clients run side by side, in processes of their own.

It costs tens of seconds a run to start and aggregates no differently; in-process is the default.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_source
from bench.core.registry import import_extra
from federated.client.app import client_app, whole_traceback
from federated.client.client import Client
from federated.server.checkpoint import Progress
from federated.simulation.cell import ENGINE, Simulation, drive
from models.recipes.context import FitContext

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
_SHIPPED = "ray.pickle"


def run_on_ray(context: FitContext) -> Progress:
    """Run a federated fit whose clients are Ray actors, one a CPU.

    Raises:
        UserError: when the extra is not installed, or the cell itself runs on Ray.
    """
    ray = import_extra("ray", "ray", f"{ENGINE}=ray")
    if ray.is_initialized():
        raise UserError(f"{ENGINE}=ray starts a Ray of its own, which a cell of --executor ray cannot; unset it there")
    from flwr.simulation import run_simulation

    app, reached = ServerApp(), []
    simulation = Simulation.of(context)

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        reached.append(drive(simulation, grid, parallel=True))

    # A folder that this process alone can write to, and no part of the run's: an actor unpickles what lies here.
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as private:
        shipped = Path(private) / _SHIPPED
        run_simulation(
            app,
            _actor_app(shipped, _ship(context, shipped), torch.get_num_threads()),
            simulation.clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    return reached[0]


def _ship(context: FitContext, path: Path) -> str:
    """Write the fit for the actors; returns its SHA-256.

    Each message carries the app, so the app carries the file's path and no image.
    """
    from ray import cloudpickle

    bare = replace(context, on_event=lambda _: None, should_stop=lambda: False)
    # Whether ray is installed or not, the checker is told the same: it has no types here.
    dump: Any = cloudpickle.dumps
    data: bytes = dump((bare, dict(PLUGINS)))
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def _actor_app(path: Path, sha256: str, threads: int) -> ClientApp:
    def find(message: Message, context: Context) -> Client:
        torch.set_num_threads(threads)
        return _shipped(str(path), sha256).find(message, context)

    return client_app(find, tell=whole_traceback)


@lru_cache(maxsize=1)
def _shipped(path: str, sha256: str) -> Simulation:
    """The simulation in an actor, read once from the file that this machine's own run wrote.

    Raises:
        ValueError: the file is another one; it is not unpickled.
    """
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is not what the run wrote for its clients")
    from ray import cloudpickle

    shipped: tuple[FitContext, dict[str, str]] = cloudpickle.loads(data)
    context, plugins = shipped
    for source, text in plugins.items():
        load_source(source, text)
    return Simulation.of(context)
