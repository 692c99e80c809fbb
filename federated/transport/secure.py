"""SecAgg+ through Flower's workflow: the server learns the weighted sum of the updates and no single one.

Flower ships the protocol for its legacy strategies only; this file holds everything that touches them. What travels is
the update, not the model, because SecAgg+ carries numbers within a range, and running variances leave any range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flwr.compat.common.recorddict_compat as compat
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Scalar,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from bench.core.identity import derive_seed
from federated.client.client import Client, work_from_json, work_to_json
from federated.client.training import Work
from federated.server.vectors import Model, Update
from federated.transport import compression

Metrics = dict[str, float]


def is_secure(message: Message) -> bool:
    """Whether a training message belongs to the protocol."""
    return RECORD_KEY_CONFIGS in message.content.config_records


def fit_secretly(message: Message, context: Context, find: Callable[[Message, Context], Client]) -> Message:
    """A client's answer in any of the protocol's four stages; it trains in the third.

    Args:
        message, context: as Flower hands them to a client.
        find: makes the client that answers.
    """

    def train(inner: Message, inner_context: Context) -> Message:
        instructions = compat.recorddict_to_fitins(inner.content, keep_input=True)
        result = _trained(find(inner, inner_context), instructions)
        return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=inner)

    return secaggplus_mod(message, context, train)


@dataclass(frozen=True)
class SecureRound:
    """One round of training under SecAgg+.

    Attributes:
        largest: the largest client's examples, the scale of the weights.
        bound: numbers of a weighted update beyond plus and minus this are cut, and counted in the clients' metrics.
    """

    grid: Grid
    work: Work
    largest: float
    bound: float
    timeout: float

    def run(self, nodes: Sequence[int], model: Model) -> tuple[list[Update], list[Metrics]]:
        """The clients' weighted mean as a single update (none when too few answered), and their metrics."""
        strategy = _Catcher(self._instructions(model), nodes)
        context = LegacyContext(Context(0, 0, {}, RecordDict(), {}), strategy=strategy, client_manager=_Nobody())
        context.state[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: self.work.round})
        context.state[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(strategy.instructions.parameters, True)
        workflow = SecAggPlusWorkflow(
            num_shares=1.0,
            reconstruction_threshold=0.5,
            max_weight=self.largest,
            clipping_range=self.bound,
            timeout=self.timeout,
        )
        workflow(self.grid, context)
        if strategy.mean is None:
            return [], strategy.metrics
        weights, buffers = (np.asarray(part, np.float32) for part in parameters_to_ndarrays(strategy.mean))
        examples = sum(m["num-examples"] for m in strategy.metrics)
        update = Update(model.weights + weights, model.buffers + buffers, np.empty(0, np.float32), examples, 1.0)
        return [update], strategy.metrics

    def _instructions(self, model: Model) -> FitIns:
        parameters = ndarrays_to_parameters([model.weights, model.buffers])
        return FitIns(parameters, {"work": work_to_json(self.work), "largest": self.largest, "bound": self.bound})


def _trained(client: Client, instructions: FitIns) -> FitRes:
    weights, buffers = parameters_to_ndarrays(instructions.parameters)
    work = replace(work_from_json(str(instructions.config["work"])), compression="none")
    arrays, metrics = client.fit(work, {"weights": weights, "buffers": buffers})
    updates = [compression.decode({"weights": arrays["weights"]}, weights) - weights, arrays["buffers"] - buffers]
    share = float(metrics["num-examples"]) / float(instructions.config["largest"])
    bound = float(instructions.config["bound"])
    # Beyond the range the protocol cuts in silence; the server should hear of it.
    cut = sum(int((np.abs(update * share) > bound).sum()) for update in updates)
    # Flower rounds stochastically from numpy's global stream, and right after this function returns.
    np.random.seed(derive_seed(work.seed, "secagg", work.round, client.partition))
    told: dict[str, Scalar] = {**metrics, "cut": cut}
    status = Status(Code.OK, "")
    return FitRes(status, ndarrays_to_parameters(updates), int(metrics["num-examples"]), told)


class _Nobody(SimpleClientManager):
    """The workflow only asks how many clients there are, for its log."""

    def num_available(self) -> int:
        return 0


@dataclass(frozen=True)
class _Node:
    """What the workflow takes from a legacy client proxy: the node's number."""

    node_id: int


class _Catcher(FedAvg):
    """A legacy strategy that asks given nodes and catches the mean that the workflow unmasks."""

    def __init__(self, instructions: FitIns, nodes: Sequence[int]) -> None:
        super().__init__()
        self.instructions, self._nodes = instructions, nodes
        self.mean: Parameters | None = None
        self.metrics: list[Metrics] = []

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> list[Any]:
        return [(_Node(node), self.instructions) for node in self._nodes]

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> tuple[None, dict[str, Any]]:
        ordered = sorted((result for _, result in results), key=lambda result: int(result.metrics["partition"]))
        self.metrics = [{name: float(value) for name, value in result.metrics.items()} for result in ordered]
        self.mean = ordered[0].parameters if ordered else None
        return None, {}
