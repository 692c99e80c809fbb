"""The same simulation on Flower's Ray back-end (the extra `ray`): clients run side by side, in processes of their own.

It costs tens of seconds a run to start and aggregates no differently; in-process is the default.
"""

from __future__ import annotations

import os
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
from federated.simulation.fit import ENGINE, Simulation, drive
from models.recipes.gradient import FitContext

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

    shipped = context.folder / _SHIPPED
    _ship(context, shipped)
    app, reached = ServerApp(), []
    simulation = Simulation.of(context)

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        reached.append(drive(simulation, grid, parallel=True))

    try:
        run_simulation(
            app,
            _actor_app(shipped, torch.get_num_threads()),
            simulation.clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    finally:
        shipped.unlink(missing_ok=True)
    return reached[0]


def _ship(context: FitContext, path: Path) -> None:
    """Write the fit for the actors. Each message carries the app, so the app carries the file's path and no image."""
    from ray import cloudpickle

    bare = replace(context, on_event=lambda _: None, should_stop=lambda: False)
    # Whether ray is installed or not, the checker is told the same: it has no types here.
    dump: Any = cloudpickle.dumps
    write_bytes(path, dump((bare, dict(PLUGINS))))


def _actor_app(path: Path, threads: int) -> ClientApp:
    def find(message: Message, context: Context) -> Client:
        torch.set_num_threads(threads)
        return _shipped(str(path)).find(message, context)

    return client_app(find, tell=whole_traceback)


@lru_cache(maxsize=1)
def _shipped(path: str) -> Simulation:
    """The simulation in an actor, read once from the file that this machine's own run wrote."""
    from ray import cloudpickle

    shipped: tuple[FitContext, dict[str, str]] = cloudpickle.loads(Path(path).read_bytes())
    context, plugins = shipped
    for source, text in plugins.items():
        load_source(source, text)
    return Simulation.of(context)
