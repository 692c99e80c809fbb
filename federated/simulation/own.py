"""What clients answer with models of their own: alone, or with the layers that stay with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.data.loader import Part
from federated.data.shares import Shares
from federated.server.checkpoint import Progress
from federated.simulation.cell import Simulation
from federated.transport.packing import unpack
from models.recipes.context import FitContext

Answers = Callable[[Part], NDArray[np.float32]]


def own_answers(context: FitContext, shares: Shares, become: Callable[[int], None]) -> Answers:
    """A function of a part to the probabilities [N, k] that each image's own client gives it.

    Args:
        become: makes the fit's module that of a client, by its number; the module is afterwards what it was before.
    """

    def answers(part: Part) -> NDArray[np.float32]:
        holders, predictor = shares.holders(part), context.predictor()
        kept = {name: tensor.clone() for name, tensor in context.module.state_dict().items()}
        found = np.empty((len(part), context.num_classes), np.float32)
        for partition, name in enumerate(shares.names):
            rows = np.flatnonzero(holders == name)
            if len(rows):
                become(partition)
                found[rows] = predictor.of_part(part.subset(rows))
        context.module.load_state_dict(kept)
        return found

    return answers


def of_clients(simulation: Simulation, progress: Progress) -> Answers:
    """The answers of the clients' own networks after the best round; one that never trained has its first layers."""
    packing = simulation.packing

    def become(partition: int) -> None:
        personal = simulation.client(partition).personal(progress.best_round)
        if not packing.second_model:
            unpack(progress.best.weights, packing.trainable)
            unpack(progress.best.buffers, packing.buffers)
        unpack(personal if len(personal) else packing.initial_personal, packing.personal)

    return own_answers(simulation.context, simulation.shares, become)
