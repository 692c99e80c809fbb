"""The two apps of a deployment: Flower starts them, at the server in front of the sites, at a site for each message."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import save_file

from bench.core.atomic import out_of_space, replacing, write_json
from bench.core.config import Federation, Protocol, Runtime
from bench.core.errors import UserError
from bench.data.registry import load as load_dataset
from bench.data.table import Table
from bench.harness.inputs import Source, fitting_data, preparation
from bench.harness.networks import check_runtime, initial_network
from bench.store.layout import BEST, LAST
from federated.algorithms.registry import algorithm_of
from federated.client.app import client_app as make_client_app
from federated.client.client import Client, FolderStore, client_seed
from federated.data.shares import PartData, share_out
from federated.deployment.status import read_status
from federated.deployment.task import OtherVersion, Task
from federated.evaluation.app import Site, answer_requests
from federated.evaluation.approval import check
from federated.evaluation.ask import lead_request, own_rows
from federated.evaluation.request import Request, is_request
from federated.server import checkpoint
from federated.server.aggregate import Aggregator
from federated.server.checkpoint import Progress
from federated.server.client_manager import ClientManager
from federated.server.losses import history_notes
from federated.server.rounds import Hooks, Rounds
from federated.server.vectors import Model
from federated.settings import WITHHELD, central_privacy, privacy_record, round_settings_of, withholds, work_of
from federated.transport.packing import Packing, pack, unpack
from models.network import Network
from models.recipes.context import FitData

STATUS = "status.json"


server_app = ServerApp()


@server_app.main()
def _serve(grid: Grid, context: Context) -> None:
    """Lead the rounds of the run configuration's task, or put its request to the sites."""
    asked = str(context.run_config["task"])
    if is_request(asked):
        lead_request(grid, asked, Path(str(context.run_config["out"])), context.run_config)
        return
    task = Task.from_json(asked)
    lead(grid, task, Path(str(context.run_config["out"])), context.run_config)


def lead(grid: Grid, task: Task, folder: Path, settings: Mapping[str, Any]) -> Progress:
    """Lead a task's rounds on a grid, and go on from the last one saved in the folder.

    Args:
        settings: `gather-timeout` and `round-timeout` in seconds, and `minimum-sites` (0: all).
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = initial_network(task.setup(), len(task.classes), torch.device("cpu"))
    module, packing = _packed(task, network)
    start = _start(folder, packing, task)
    rounds = _rounds(grid, task, packing, settings)
    status = _Status(folder / STATUS, task.protocol.federated, start)

    def save(progress: Progress) -> None:
        checkpoint.save(folder / LAST, progress)
        status.write(progress)

    progress = rounds.run(start, Hooks(begin=status.begin, save=save))
    notes = history_notes(progress.history)
    packing.settle(progress.best.weights, progress.best.buffers)
    if packing.personal and withholds(task.protocol.federated):
        unpack(packing.initial_personal, packing.personal)
        notes.append(WITHHELD)
    elif packing.personal:
        mean, missing = rounds.personal_mean(progress)
        unpack(mean, packing.personal)
        notes += [f"not in the mean of the clients' own layers: {loss}" for loss in missing]
    with replacing(folder / BEST) as temporary:
        tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        save_file(tensors, temporary, metadata={"round": str(progress.best_round)})
    status.write(progress, notes)
    return progress


class _Status:
    """What a run's folder tells: the rounds' history, and the privacy that every round begun has spent."""

    def __init__(self, path: Path, federation: Federation, start: Progress) -> None:
        self._path, self._federation = path, federation
        begun = read_status(path)["begun"] if path.is_file() else 0
        self._begun = max(start.round, begun)

    def begin(self, progress: Progress) -> None:
        """Count a round before anything of it is sent: a server that dies in it has perhaps released it."""
        self._begun += 1
        self.write(progress)

    def write(self, progress: Progress, notes: list[str] | None = None) -> None:
        """Write the file; its `round` is the last finished one, and notes say that the run is done."""
        history = list(progress.history)
        told = {"round": progress.round, "done": notes is not None, "begun": self._begun, "history": history}
        spent = privacy_record(self._federation, history, self._begun)
        privacy = {"privacy": spent} if spent else {}
        write_json(self._path, {**told, "notes": notes or [], **privacy})


def _start(folder: Path, packing: Packing, task: Task) -> Progress:
    weights = pack(packing.trainable)
    shared = algorithm_of(task.regime, task.protocol.federated).shared(weights)
    return checkpoint.load(folder / LAST, Progress.start(Model(weights, pack(packing.buffers), shared)))


def _rounds(grid: Grid, task: Task, packing: Packing, settings: Mapping[str, Any]) -> Rounds:
    federation = task.protocol.federated
    algorithm = algorithm_of(task.regime, federation)
    manager = ClientManager(task.sites, packing.resident_digest(), network=True)
    manager.gather(grid, float(settings["gather-timeout"]), int(settings["minimum-sites"]) or None)
    total, largest = manager.total_examples(), manager.largest()
    central = central_privacy(federation, total, largest)
    aggregator = Aggregator(algorithm, total, task.sites, central)
    timeout = float(settings["round-timeout"])
    round_settings = round_settings_of(task.protocol, parallel=True, timeout=timeout, system_noise=True)
    if round_settings.secret_draw:
        logging.getLogger("flwr").setLevel(logging.WARNING)  # Flower's strategies log how many they asked
    return Rounds(grid, manager, aggregator, work_of(algorithm, task.cell.fit_seed), round_settings)


def _packed(task: Task, network: Network) -> tuple[torch.nn.Module, Packing]:
    federation = task.protocol.federated
    module = network if task.protocol.tuning == "full" else network.head
    return module, algorithm_of(task.regime, federation).packing(module, network)


def _find(_: Message, context: Context) -> Client:
    return site_client(str(context.run_config["task"]), tuple(sorted(dict(context.node_config).items())))


def discreet(error: Exception) -> str:
    """What the server hears of a site's failure: no path, no name, no label of the site's, and yet what to do."""
    if isinstance(error, OtherVersion):
        return str(error)
    if out_of_space(error):
        return "no space left on the site's disk; it goes on when some is freed and the run is started again"
    return f"{type(error).__name__} at the site; its own log says more"


@lru_cache(maxsize=1)
def site_client(text: str, node: tuple[tuple[str, Any], ...]) -> Client:
    """A site's client.

    Args:
        text: the task as it travels.
        node: the site's own settings: `partition-id`, `data` (its dataset), `state` (its folder), perhaps `threads`.

    Raises:
        UserError: another version, a precision that this machine has not, a dataset
            that is not there or not of the task's classes or kind.
    """
    task, config = Task.from_json(text), dict(node)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_runtime(task.protocol, Runtime(device=device.type))
    torch.set_num_threads(int(config.get("threads", 0)) or torch.get_num_threads())
    source = Source(task.setup(), _site_table(task, str(config["data"])))
    network, prepare = initial_network(source.setup, len(task.classes), device), preparation(source, device)
    module, packing = _packed(task, network)
    partition = int(config["partition-id"])
    parts = _site_parts(task, fitting_data(source, network, prepare), partition)
    seed = client_seed(task.cell.data_seed, partition)
    data = PartData(parts.train, parts.val, prepare, task.protocol.batch_size, seed)
    store = FolderStore(Path(str(config["state"])) / task.key())
    system_noise = task.protocol.federated.privacy == "local"
    keeps, precision = withholds(task.protocol.federated), task.protocol.precision
    return Client(
        module, packing, data, store, partition, system_noise=system_noise, withholds=keeps, precision=precision
    )


def _site_table(task: Task, dataset: str) -> Table:
    table = load_dataset(dataset, task.protocol)
    if tuple(table.classes) != task.classes:
        raise UserError(
            f"{dataset} has the classes {', '.join(table.classes)}, the task has {', '.join(task.classes)}; "
            "rename the site's folders or labels to the task's"
        )
    if not task.rehearsal:
        kind: Any = task.kind or "other"
        return replace(table, kind=kind)
    if task.kind not in ("", table.kind):
        raise UserError(f"{dataset} holds images of kind {table.kind}, which its rehearsal takes; leave --kind out")
    return table


def _site_parts(task: Task, data: FitData, partition: int) -> FitData:
    """A site's training and validation part: all of its dataset's, or in a rehearsal its share of a common one."""
    if not task.rehearsal:
        return data
    shares = share_out(data.train, data.val, task.protocol.federated, len(task.classes), task.cell.data_seed)
    if len(shares.names) != task.sites:
        raise UserError(
            f"the dataset is dealt to {len(shares.names)} clients, and the rehearsal has {task.sites} sites"
        )
    return FitData(shares.train[partition], shares.val[partition])


def find_site(context: Context) -> Site:
    """A site as it meets a request: consent lies in the site's folder, beside the state that training keeps."""
    config = dict(context.node_config)
    partition, folder = int(config["partition-id"]), Path(str(config["state"])).parent
    torch.set_num_threads(int(config.get("threads", 0)) or torch.get_num_threads())

    def images(request: Request) -> tuple[Table, Any]:
        protocol = request.rehearsal.protocol if request.rehearsal else Protocol()
        table = load_dataset(str(config["data"]), protocol)
        return table, own_rows(request, table, partition)

    return Site(partition, lambda request: check(request, folder), images)


client_app = make_client_app(_find, tell=discreet)
answer_requests(client_app, find_site)
