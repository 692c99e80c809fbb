"""FedRep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from federated.algorithms.base import Correction
from federated.algorithms.personal.fedper import FedPer, FedPerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from federated.client.local import LocalRound


class FedRepOptions(FedPerOptions):
    """FedRep's own settings."""

    head_share: float = Field(0.5, gt=0, lt=1, description="share of a round's steps that train the own layers")


class FedRep(FedPer):
    """FedPer in turns: first the client's own layers, then the shared ones (Collins et al., arXiv 2102.07078, alg. 1).

    Of a round's steps the first `head_share` (rounded, at least one of two) train the own layers with the shared ones
    fixed, the rest the other way round. Without own layers it is FedAvg.
    """

    name = "fedrep"
    summary = "FedPer in turns: the clients' own last layers first, then the shared ones"
    Settings = FedRepOptions

    def correction(self, local: LocalRound) -> Correction | None:
        """Zeroes the gradients of what is fixed."""
        personal = {id(tensor) for tensor in local.packing.personal}
        if not personal:
            return None
        own = [position for position, p in enumerate(local.parameters) if id(p) in personal]
        shared = [position for position in range(len(local.parameters)) if position not in own]
        turn = max(1, round(self.settings.head_share * local.steps))
        taken = 0

        def fix(gradients: list[Tensor]) -> None:
            nonlocal taken
            for position in shared if taken < turn else own:
                gradients[position].zero_()
            taken += 1

        return fix
