"""The two apps of a deployment: Flower starts them, at the server in front of the sites, at a site for each message."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from safetensors.torch import save_file

from bench.core.atomic import replacing, write_json
from bench.core.errors import UserError
from bench.data.cache import images as cached_images
from bench.data.loader import Part, part
from bench.data.registry import load as load_dataset
from bench.data.split import split
from federated import checkpoint
from federated.aggregate import Aggregator, Model
from federated.apps import client_app as make_client_app
from federated.checkpoint import Progress
from federated.client import Client, FolderStore, client_seed
from federated.data import PartData, share_out
from federated.losses import history_notes
from federated.packing import Packing, pack, to_group_norm, unpack
from federated.roster import Roster
from federated.rounds import Hooks, Rounds
from federated.settings import central_privacy, course_of, work_of
from federated.strategies import batch_norm_policy, recipe
from federated.task import Task
from models.batches import Preparation
from models.callbacks import BEST, LAST
from models.features import feature_maps, pooled
from models.network import Network

STATUS = "status.json"


server_app = ServerApp()


@server_app.main()
def _serve(grid: Grid, context: Context) -> None:
    """Lead the rounds of the run configuration's task, and go on from the last one saved in its folder."""
    task = Task.from_json(str(context.run_config["task"]))
    folder = Path(str(context.run_config["out"]))
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    network = task.network(device)
    module, packing = _packed(task, network)
    start = _start(folder, packing, task)
    rounds = _rounds(grid, task, packing, context.run_config)

    def save(progress: Progress) -> None:
        checkpoint.save(folder / LAST, progress)
        write_json(folder / STATUS, {"round": progress.round, "done": False, "history": list(progress.history)})

    progress = rounds.run(start, Hooks(save=save))
    notes = history_notes(progress.history)
    unpack(progress.best.weights, packing.trainable)
    unpack(progress.best.buffers, packing.buffers)
    if packing.personal:
        mean, missing = rounds.personal_mean(progress)
        unpack(mean, packing.personal)
        notes += [f"not in the mean of the clients' own BatchNorm layers: {loss}" for loss in missing]
    with replacing(folder / BEST) as temporary:
        tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        save_file(tensors, temporary, metadata={"round": str(progress.best_round)})
    done = {"round": progress.round, "done": True, "history": list(progress.history), "notes": notes}
    write_json(folder / STATUS, done)


def _start(folder: Path, packing: Packing, task: Task) -> Progress:
    weights = pack(packing.trainable)
    scaffold = recipe(task.regime, task.protocol.federated).scaffold
    control = weights * 0 if scaffold else weights[:0]
    return checkpoint.load(folder / LAST, Progress.start(Model(weights, pack(packing.buffers), control)))


def _rounds(grid: Grid, task: Task, packing: Packing, settings: Any) -> Rounds:
    federation = task.protocol.federated
    chosen = recipe(task.regime, federation)
    roster = Roster(task.sites, packing.resident_digest(), network=True)
    roster.gather(grid, float(settings["gather-timeout"]), int(settings["minimum-sites"]) or None)
    total, largest = roster.total_examples(), roster.largest()
    central = central_privacy(federation, total, largest)
    aggregator = Aggregator(chosen, chosen.strategy(federation), total, central)
    timeout = float(settings["round-timeout"])
    course = course_of(task.protocol, parallel=True, timeout=timeout, system_noise=True)
    return Rounds(grid, roster, aggregator, work_of(federation, chosen, task.cell.fit_seed), course)


def _packed(task: Task, network: Network) -> tuple[torch.nn.Module, Packing]:
    federation = task.protocol.federated
    policy = batch_norm_policy(recipe(task.regime, federation), federation)
    module = network if task.protocol.tuning == "full" else network.head
    if policy == "group":
        to_group_norm(module)
    return module, Packing(module, policy, network)


def _find(_: Message, context: Context) -> Client:
    return _client(str(context.run_config["task"]), tuple(sorted(dict(context.node_config).items())))


def _discreet(error: Exception) -> str:
    return f"{type(error).__name__} at the site; its own log says more"


@lru_cache(maxsize=1)
def _client(text: str, node: tuple[tuple[str, Any], ...]) -> Client:
    task, config = Task.from_json(text), dict(node)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(int(config.get("threads", 0)) or torch.get_num_threads())
    network = task.network(device)
    module, packing = _packed(task, network)
    partition = int(config["partition-id"])
    train, val = site_parts(task, str(config["data"]), partition, network, task.preparation(device))
    seed = client_seed(task.cell.data_seed, partition)
    data = PartData(train, val, task.preparation(device), task.protocol.batch_size, seed)
    store = FolderStore(Path(str(config["state"])) / task.key())
    system_noise = task.protocol.federated.privacy == "local"
    return Client(module, packing, data, store, partition, system_noise=system_noise)


def site_parts(task: Task, dataset: str, partition: int, network: Network, prepare: Preparation) -> tuple[Part, Part]:
    """A site's training and validation part: all of its dataset's, or in a rehearsal its share of a common one.

    Raises:
        UserError: when the dataset is not there or its classes are not the task's.
    """
    table = load_dataset(dataset, task.protocol)
    if tuple(table.classes) != task.classes:
        raise UserError(
            f"{dataset} has the classes {', '.join(table.classes)}, the task has {', '.join(task.classes)}; "
            "rename the site's folders or labels to the task's"
        )
    rows = split(table, task.split, task.cell.data_seed)
    inputs: Any = cached_images(table, task.protocol.image_size)
    if task.protocol.tuning == "head":
        inputs = _head_inputs(task, table.fingerprint(), network, inputs, prepare)
    train, val = part(table, inputs, rows.train), part(table, inputs, rows.val)
    if not task.rehearsal:
        return train, val
    shares = share_out(train, val, task.protocol.federated, len(task.classes), task.cell.data_seed)
    return shares.train[partition], shares.val[partition]


def _head_inputs(task: Task, fingerprint: str, network: Network, images: Any, prepare: Preparation) -> Any:
    weights = task.weights()
    identity = {
        "site": fingerprint,
        "backbone": task.spec.backbone,
        "weights": weights.identity if weights.pretrained else f"seed {task.cell.fit_seed}",
        "size": task.protocol.image_size,
        "normalization": task.protocol.normalization,
        "channels_last": task.protocol.channels_last,
    }
    maps = feature_maps(network.backbone, images, prepare, identity, lambda _: None, lambda: False)
    return pooled(maps) if getattr(task.spec.head, "pools_first", False) else maps


client_app = make_client_app(_find, tell=_discreet)
