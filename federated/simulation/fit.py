"""Federated fits for the harness: clients in this process by default, on Flower's Ray simulation when asked."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch

from bench.measure.clients import VAL_CLIENT_COLUMNS
from bench.store.layout import BEST, LAST
from federated.client.app import client_app
from federated.data.shares import in_pieces
from federated.server.checkpoint import Progress
from federated.server.losses import history_notes
from federated.server.rounds import Row
from federated.settings import WITHHELD, privacy_statement, releases_of, spent, withholds
from federated.simulation.cell import ENGINE, Simulation, drive
from federated.simulation.inprocess import InProcessGrid
from federated.simulation.own import of_clients
from federated.simulation.passes import passes_of, twin_protocol
from models.recipes.batches import has_batch_norm
from models.recipes.context import FitContext, FitOutcome
from models.recipes.state import load_weights


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


def _finished(simulation: Simulation) -> bool:
    """Whether an earlier start ended the rounds, but was killed before its result."""
    folder = simulation.context.folder
    return (folder / LAST).is_file() and (folder / BEST).is_file()


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
        releases = releases_of(federation, history)
        columns |= {"epsilon": spent(federation, releases), "delta": federation.delta}
    numbers = {name: float("nan") if value is None else float(value) for name, value in columns.items()}
    notes = [*_notes(simulation), *history_notes(history), *_secure_note(history)]
    own = of_clients(simulation, progress) if simulation.packing.personal else None
    return FitOutcome(history, simulation.context.predictor(), numbers, notes, simulation.shares.holders, own)


def _secure_note(history: list[Row]) -> list[str]:
    cut = sum(row.get("cut", 0) for row in history)
    return [f"SecAgg+ cut {cut:.0f} numbers at its range; raise federated.secure_range"] if cut else []


def _notes(simulation: Simulation) -> list[str]:
    federation = simulation.federation
    notes = [f"{simulation.clients} simulated clients, partition {federation.partition}"]
    if simulation.packing.personal:
        notes.append(
            WITHHELD if withholds(federation) else "predictions use the weighted mean of the clients' own layers"
        )
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
