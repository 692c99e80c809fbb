"""Ditto."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from federated.algorithms.base import EMPTY, Algorithm, Arrays, Options, Vector

if TYPE_CHECKING:
    from federated.client.local import LocalRound


class DittoOptions(Options):
    """Ditto's own settings."""

    weight: float = Field(1.0, ge=0, le=100, description="lambda, the own model's pull to the shared one; 0: alone")


class Ditto(Algorithm):
    """FedAvg, and beside it a model of each client's own (Li et al. 2021, arXiv 2012.04221, algorithm 1).

    The own model v_k takes as many steps along g(v) + lambda (v - w_t) on the same batches, from where the client's
    last round left it. Validation metrics are those of the own models; one network is needed for the test set, and it
    is their weighted mean, for which they leave the clients once, at the end. The shared model is FedAvg's.
    """

    name = "ditto"
    summary = "FedAvg, and beside it a model of each client's own that is pulled to the shared one"
    Settings = DittoOptions
    private = False
    secret = False
    second_model = True

    def finish(self, local: LocalRound, trained: Vector, steps: int) -> tuple[Vector, Arrays]:
        """Trains the own model, which the module holds afterwards; it is remembered as what is personal."""
        from federated.client import training
        from federated.transport.packing import unpack

        unpack(local.memory.get("personal", local.packing.initial_personal), local.packing.personal)
        pull = local.pull(self.settings.weight)
        training.train(local.module, local.data, local.work, steps, local.seed, None, pull, local.micro_batches)
        return EMPTY, {}
