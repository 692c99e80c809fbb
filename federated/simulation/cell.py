"""A federated cell on a grid: its clients, its rounds and what they leave in the cell's folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Context, Message
from flwr.serverapp import Grid
from safetensors.torch import save_file

from bench.core.atomic import replacing
from bench.core.config import Federation
from bench.core.identity import derive_seed
from bench.store.layout import BEST, CLIENTS, LAST
from federated.algorithms.base import Algorithm
from federated.algorithms.registry import algorithm_of
from federated.client.client import Client, FolderStore, client_seed
from federated.data.shares import PartData, Shares, share_out, write_partition
from federated.server import checkpoint
from federated.server.aggregate import Aggregator
from federated.server.checkpoint import Progress
from federated.server.client_manager import ClientManager
from federated.server.losses import DroppedOut
from federated.server.rounds import Hooks, Rounds, Row, Stopped
from federated.server.vectors import Model
from federated.settings import central_privacy, round_settings_of, withholds, work_of
from federated.transport.packing import Packing, pack, unpack
from models.recipes.callbacks import Interrupted
from models.recipes.context import FitContext

ENGINE = "BENCH_FEDERATED_ENGINE"


@dataclass(frozen=True)
class Simulation:
    """A federated cell, ready to be run on a grid."""

    context: FitContext
    algorithm: Algorithm
    packing: Packing
    shares: Shares

    @classmethod
    def of(cls, context: FitContext) -> Simulation:
        """Check the settings, deal the images, pack the network.

        Raises:
            UserError: settings that contradict each other, or too few groups.
        """
        federation = context.protocol.federated
        algorithm = algorithm_of(context.regime, federation)
        packing = algorithm.packing(context.module, context.network)
        shares = share_out(context.data.train, context.data.val, federation, context.num_classes, context.data_seed)
        write_partition(context.folder, shares, context.num_classes, federation.partition)
        return cls(context, algorithm, packing, shares)

    @property
    def federation(self) -> Federation:
        """The federation's settings."""
        return self.context.protocol.federated

    @property
    def clients(self) -> int:
        """Number of clients (of sites, where the partition is by site)."""
        return len(self.shares.names)

    def client(self, partition: int) -> Client:
        """One client; all of a process share the network, and each loads the round's vectors first."""
        context = self.context
        seed = client_seed(context.data_seed, partition)
        parts = self.shares.train[partition], self.shares.val[partition]
        data = PartData(*parts, context.prepare, context.protocol.batch_size, seed)
        store = FolderStore(context.folder / CLIENTS / str(partition))
        return Client(
            context.module,
            self.packing,
            data,
            store,
            partition,
            micro_batches=context.micro_batches,
            withholds=withholds(self.federation),
            precision=context.protocol.precision,
        )

    def find(self, message: Message, context: Context) -> Client:
        """The client that a message is for. Raises DroppedOut where the simulation loses it."""
        partition = int(context.node_config["partition-id"])
        if self.drops(int(message.metadata.group_id or 0), partition):
            raise DroppedOut("lost by the simulation's own draw (dropout_rate)")
        return self.client(partition)

    def drops(self, round_number: int, partition: int) -> bool:
        """Whether a client is lost in a round, drawn from the seed; evaluation (no group id, 0) is never disturbed."""
        rate = self.federation.dropout_rate
        if rate == 0 or round_number == 0:
            return False
        seed = derive_seed(self.context.fit_seed, "dropout", round_number, partition)
        return bool(np.random.default_rng(seed).random() < rate)

    def start(self) -> Progress:
        """Before the first round, or after the last one that was saved."""
        weights, buffers = pack(self.packing.trainable), pack(self.packing.buffers)
        start = Model(weights, buffers, self.algorithm.shared(weights))
        return checkpoint.load(self.context.folder / LAST, Progress.start(start))

    def rounds(self, grid: Grid, parallel: bool = False) -> Rounds:
        """The server's loop on a grid whose clients are there."""
        manager = ClientManager(self.clients, self.packing.resident_digest())
        manager.gather(grid)
        central = central_privacy(self.federation, manager.total_examples(), manager.largest())
        fresh = algorithm_of(self.context.regime, self.federation)
        aggregator = Aggregator(fresh, manager.total_examples(), self.clients, central)
        work = work_of(fresh, self.context.fit_seed)
        return Rounds(grid, manager, aggregator, work, round_settings_of(self.context.protocol, parallel=parallel))


def drive(simulation: Simulation, grid: Grid, parallel: bool = False) -> Progress:
    """Run the rounds on a grid and leave the chosen weights in the network and in `best.safetensors`.

    Args:
        simulation: the cell's federation.
        grid: where its clients answer.
        parallel: whether they answer at once.

    Raises:
        Interrupted: when asked to stop; the last finished round is saved.
    """
    rounds = simulation.rounds(grid, parallel)
    hooks = _hooks(simulation)
    try:
        progress = rounds.run(simulation.start(), hooks)
    except Stopped as request:
        raise Interrupted from request
    packing = simulation.packing
    packing.settle(progress.best.weights, progress.best.buffers)
    if packing.personal:
        withheld = withholds(simulation.federation)  # a simulation loses none of these replies
        own = packing.initial_personal if withheld else rounds.personal_mean(progress)[0]
        unpack(own, packing.personal)
    _save_best(simulation.context, progress)
    return progress


def _hooks(simulation: Simulation) -> Hooks:
    context = simulation.context

    def tell(row: Row) -> None:
        context.on_event({"event": "epoch", "epoch": row["round"] - 1, **row})

    def save(progress: Progress) -> None:
        checkpoint.save(context.folder / LAST, progress)

    return Hooks(on_round=tell, should_stop=context.should_stop, save=save)


def _save_best(context: FitContext, progress: Progress) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in context.module.state_dict().items()}
    with replacing(context.folder / BEST) as temporary:
        save_file(tensors, temporary, metadata={"round": str(progress.best_round)})
