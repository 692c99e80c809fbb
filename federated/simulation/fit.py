"""Federated fits for the harness: clients in this process by default, on Flower's Ray simulation when asked."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.serverapp import Grid
from safetensors.torch import save_file

from bench.core.atomic import replacing
from bench.core.config import Federation
from bench.core.identity import derive_seed
from bench.measure.clients import VAL_CLIENT_COLUMNS
from federated.algorithms.base import Algorithm
from federated.algorithms.registry import algorithm_of
from federated.client.app import client_app
from federated.client.client import Client, FolderStore, client_seed
from federated.data.shares import PartData, Shares, in_pieces, share_out, write_partition
from federated.server import checkpoint
from federated.server.aggregate import Aggregator, Model
from federated.server.checkpoint import Progress
from federated.server.client_manager import ClientManager
from federated.server.losses import DroppedOut, history_notes
from federated.server.rounds import Hooks, Rounds, Row, Stopped
from federated.settings import central_privacy, privacy_statement, round_settings_of, spent, work_of
from federated.simulation.inprocess import InProcessGrid
from federated.simulation.passes import passes_of, twin_protocol
from federated.transport.packing import Packing, pack, unpack
from models.group_norm import to_group_norm
from models.recipes.batches import has_batch_norm
from models.recipes.callbacks import BEST, LAST, Interrupted
from models.recipes.gradient import FitContext, FitOutcome
from models.recipes.state import load_weights

ENGINE = "BENCH_FEDERATED_ENGINE"
_CLIENTS = "clients"


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
        policy = algorithm.batch_norm_policy()
        if policy == "group":
            to_group_norm(context.module)
        shares = share_out(context.data.train, context.data.val, federation, context.num_classes, context.data_seed)
        write_partition(context.folder, shares, context.num_classes, federation.partition)
        return cls(context, algorithm, Packing(context.module, policy, context.network), shares)

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
        store = FolderStore(context.folder / _CLIENTS / str(partition))
        return Client(context.module, self.packing, data, store, partition, micro_batches=context.micro_batches)

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


def fit(context: FitContext) -> FitOutcome:
    """Train by a federated regime; goes on from the last finished round.

    Raises:
        Interrupted: when asked to stop.
        UserError: settings that contradict each other, too few groups, or no update in any round.
        ClientFailed: a client's code raised in another process; in this one, its own exception.
    """
    simulation = Simulation.of(context)
    if _finished(simulation):
        load_weights(context.module, context.folder / BEST)
        return _outcome(simulation, simulation.start())
    engine = os.environ.get(ENGINE, "inprocess")
    with torch.random.fork_rng(devices=[]):
        if engine == "ray":
            from federated.simulation.ray import run_on_ray

            progress = run_on_ray(context)
        else:
            progress = drive(simulation, InProcessGrid(client_app(simulation.find), simulation.clients))
    return _outcome(simulation, progress)


def drive(simulation: Simulation, grid: Grid, parallel: bool = False) -> Progress:
    """Run the rounds on a grid and leave the chosen weights in the network and in `best.safetensors`.

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
    unpack(progress.best.weights, packing.trainable)
    unpack(progress.best.buffers, packing.buffers)
    if packing.personal:
        unpack(rounds.personal_mean(progress)[0], packing.personal)  # a simulation loses none of these replies
    _save_best(simulation.context, progress)
    shutil.rmtree(simulation.context.folder / _CLIENTS, ignore_errors=True)
    return progress


def _hooks(simulation: Simulation) -> Hooks:
    context = simulation.context

    def tell(row: Row) -> None:
        context.on_event({"event": "epoch", "epoch": row["round"] - 1, **row})

    def save(progress: Progress) -> None:
        checkpoint.save(context.folder / LAST, progress)

    return Hooks(on_round=tell, should_stop=context.should_stop, save=save)


def _finished(simulation: Simulation) -> bool:
    """Whether an earlier start ended the rounds and took the clients' files away, but was killed before its result."""
    folder = simulation.context.folder
    return (folder / LAST).is_file() and (folder / BEST).is_file() and not (folder / _CLIENTS).is_dir()


def _save_best(context: FitContext, progress: Progress) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in context.module.state_dict().items()}
    with replacing(context.folder / BEST) as temporary:
        save_file(tensors, temporary, metadata={"round": str(progress.best_round)})


def _outcome(simulation: Simulation, progress: Progress) -> FitOutcome:
    history = list(progress.history)
    chosen = history[progress.best_round - 1]
    columns: dict[str, Any] = {
        "clients": simulation.clients,
        "rounds": progress.round,
        "best_round": progress.best_round,
        "up_mb": sum(row["up_mb"] for row in history),
        "down_mb": sum(row["down_mb"] for row in history),
        "seconds_compute": sum(row["seconds_compute"] for row in history),
        "seconds_communication": sum(row["seconds_communication"] for row in history),
        **{name: chosen[name] for name in VAL_CLIENT_COLUMNS},
    }
    federation = simulation.federation
    if federation.privacy != "none":
        columns |= {"epsilon": spent(federation, progress.round), "delta": federation.delta}
    numbers = {name: float("nan") if value is None else float(value) for name, value in columns.items()}
    notes = [*_notes(simulation), *history_notes(history), *_secure_note(history)]
    return FitOutcome(history, simulation.context.predictor(), numbers, notes, simulation.shares.holders)


def _secure_note(history: list[Row]) -> list[str]:
    cut = sum(row.get("cut", 0) for row in history)
    return [f"SecAgg+ cut {cut:.0f} numbers at its range; raise federated.secure_range"] if cut else []


def _notes(simulation: Simulation) -> list[str]:
    federation = simulation.federation
    notes = [f"{simulation.clients} simulated clients, partition {federation.partition}"]
    if simulation.packing.personal:
        notes.append("predictions use the weighted mean of the clients' own BatchNorm layers")
    notes += in_pieces(simulation.context, simulation.shares, _takes_statistics(simulation))
    if federation.privacy != "none":
        notes.append(privacy_statement(federation, simulated=True))
    return notes


def _takes_statistics(simulation: Simulation) -> bool:
    """Whether a BatchNorm has its statistics from the batches that gradients are taken of."""
    algorithm = simulation.algorithm
    still = algorithm.still_statistics or algorithm.batch_norm_policy() == "frozen"
    return has_batch_norm(simulation.context.module) and not still


def twin(context: FitContext) -> FitOutcome:
    """The centralized twin: the clients' optimizer, initial weights and split, and as many images seen, in one place.

    Raises:
        Interrupted: when asked to stop.
        UserError: the federation that it is the twin of cannot be made from the training part.
    """
    from models.recipes.gradient import fit as centralized

    passes = passes_of(context)
    outcome = centralized(replace(context, protocol=twin_protocol(context.protocol, passes)))
    return replace(outcome, notes=[*outcome.notes, passes.note()])
