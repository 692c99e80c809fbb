"""What a federated algorithm is: the few places where algorithms differ. The loops of client and server know no other.

A subclass is one file. It says in its docstring which paper and equation it is, and overrides what differs from FedAvg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.core.config import Federation
from bench.core.errors import UserError
from bench.core.registry import near_matches

if TYPE_CHECKING:
    from flwr.serverapp.strategy import FedAvg
    from torch import Tensor, nn

    from federated.client.gradients import Plain
    from federated.client.local import LocalRound
    from federated.server.vectors import Model, Update
    from federated.transport.packing import Packing

Vector = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
Correction = Callable[[list["Tensor"]], None]
EMPTY: Vector = np.empty(0, np.float32)


class Options(BaseModel):
    """Settings that an algorithm has for itself, each with bounds: `--set federated.options.ALGORITHM.NAME=VALUE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Algorithm:
    """A federated algorithm; as it stands it is FedAvg.

    One object serves one federation's server for all its rounds, and may remember; a client makes a new one in every
    round, and what it must remember goes through its store. Vectors are float32 [P], the travelling parameters.

    Attributes:
        name: what the regime is called.
        summary: one line for the listing.
        reads: fields of `Federation` that it takes its settings from; they travel to the clients.
        Settings: its own further settings.
        batch_norm: the BatchNorm policy that it fixes, or None.
        takes_mean: whether the server takes a weighted mean first, which central noise rests on.
        sees_updates: whether the server must see single updates, which secure aggregation hides.
        private: whether noise on weights and their mean covers all that leaves a client.
        secret: whether one weighted sum of whole vectors is all that the server needs.
        still_statistics: whether BatchNorm keeps its running statistics during the steps.
        second_model: whether what a client keeps is a second model, which no round's training begins from.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    Settings: ClassVar[type[Options]] = Options
    batch_norm: ClassVar[str | None] = None
    takes_mean: ClassVar[bool] = True
    sees_updates: ClassVar[bool] = False
    private: ClassVar[bool] = True
    secret: ClassVar[bool] = True
    still_statistics: ClassVar[bool] = False
    second_model: ClassVar[bool] = False

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.settings = self._checked(federation.options.get(self.name, {}))

    # At a client.

    def personal(self, module: nn.Module) -> set[str]:
        """Names of the module's parameters and buffers that stay with the client, beside the BatchNorm policy's."""
        return set()

    def packing(self, module: nn.Module, network: nn.Module) -> Packing:
        """What of a network's trained module travels and what stays; may replace its BatchNorm layers.

        Args:
            module: what is trained, the network or a part of it.
        """
        from federated.transport.packing import Packing
        from models.group_norm import to_group_norm

        policy = self.batch_norm_policy()
        if policy == "group":
            to_group_norm(module)
        return Packing(module, policy, network, self.personal(module), self.second_model)

    def gradient(self, local: LocalRound) -> Plain:
        """How a batch's gradient is computed; called when the module is ready to train."""
        return local.plain()

    def correction(self, local: LocalRound) -> Correction | None:
        """What is added in place to every step's gradients, in the order of `local.parameters`."""
        return None

    def finish(self, local: LocalRound, trained: Vector, steps: int) -> tuple[Vector, Arrays]:
        """After the steps: what is sent beside the weights (empty for nothing), and what is remembered.

        Args:
            trained: the weights [P] after the steps.
            steps: number of steps taken.
        """
        return EMPTY, {}

    # At the server.

    @cached_property
    def rule(self) -> FedAvg:
        """The Flower strategy that gets the clients' weights."""
        return self.strategy()

    def strategy(self) -> FedAvg:
        """A new strategy, which goes on with however few clients answer."""
        from federated.server.rules import weighted_mean

        return weighted_mean()

    def shared(self, weights: Vector) -> Vector:
        """What is sent to the clients beside the weights in the first round; empty for nothing."""
        return weights[:0]

    def learning_rate(self, base: float, number: int, rounds: int) -> float:
        """The clients' step size in a round, from the configured one.

        Args:
            number: the round's, from 1 to `rounds`.
        """
        return base

    def prepare(self, updates: Sequence[Update], model: Model) -> Sequence[Update]:
        """The updates as the rule gets them."""
        return updates

    def stepped(self, mean: Vector, updates: Sequence[Update], model: Model, clients: int) -> Vector:
        """The next weights.

        Args:
            mean: what the rule made of the updates.
            model: what the round started from.
            clients: number of clients of the federation, those not asked included.
        """
        return mean

    def merge_buffers(self, number: int, updates: Sequence[Update]) -> Vector:
        """The next running statistics [B]: the clients' weighted mean."""
        from federated.server.rules import aggregated, weighted_mean

        return aggregated(weighted_mean(), number, [(u.buffers, u.examples) for u in updates])[0]

    def next_shared(self, updates: Sequence[Update], model: Model, examples: float) -> Vector:
        """What is sent beside the weights in the next round.

        Args:
            examples: training images of all clients, those not asked included.
        """
        return model.shared

    def memory(self) -> Arrays:
        """What the server's side must have again after a restart."""
        return {}

    def remember(self, memory: Arrays) -> None:
        """Undo `memory`."""

    # Settings.

    def batch_norm_policy(self) -> str:
        """What happens to BatchNorm: the algorithm's own policy before the configured one."""
        return self.batch_norm or self.federation.batch_norm

    def travelling_settings(self) -> dict[str, Any]:
        """What a client makes the same algorithm from: fields of a `Federation`, as JSON values."""
        own = self.federation.options.get(self.name)
        return {
            **{name: getattr(self.federation, name) for name in self.reads},
            **({"options": {self.name: own}} if own else {}),
        }

    def _checked(self, values: dict[str, Any]) -> Any:
        try:
            return self.Settings.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        name = f"federated.options.{self.name}.{field}"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{self.name} has no setting {name}; {near_matches(field, self.Settings.model_fields)}")
        raise UserError(f"{name} = {first['input']!r} will not do: {first['msg'].lower()}")
