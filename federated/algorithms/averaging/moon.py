"""MOON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from federated.algorithms.base import EMPTY, Algorithm, Arrays, Options, Vector

if TYPE_CHECKING:
    from federated.client.gradients import Plain
    from federated.client.local import LocalRound


class MoonOptions(Options):
    """MOON's own settings."""

    mu: float = Field(1.0, ge=0, le=100, description="weight of the contrastive term; 0: FedAvg")
    temperature: float = Field(0.5, gt=0, le=10, description="of the contrastive term")


class Moon(Algorithm):
    """Representations are drawn to the round's model and away from the client's last (Li et al., arXiv 2103.16257).

    The loss is cross-entropy + mu l, l = -log(e^(s(z, z_t) / T) / (e^(s(z, z_t) / T) + e^(s(z, z_k) / T))) (eq. 3), s
    the cosine, z what enters the last layer with parameters, of the model in training, of the round's (z_t) and of the
    client's own model of the last round in which it took part (z_k), the latter two in evaluation mode. In a client's
    first round the term is absent: z_k would be z_t, and its gradient 0. The client remembers its model.
    """

    name = "moon"
    summary = "representations drawn to the round's model and away from the client's last one"
    Settings = MoonOptions

    def gradient(self, local: LocalRound) -> Plain:
        """The gradient of the loss with the contrastive term, from a client's second round on."""
        if self.settings.mu == 0 or "previous" not in local.memory:
            return local.plain()
        from federated.client.contrastive import Contrastive

        return Contrastive(local, self.settings.mu, self.settings.temperature)

    def finish(self, local: LocalRound, trained: Vector, steps: int) -> tuple[Vector, Arrays]:
        """Remembers the model."""
        from federated.transport.packing import pack

        if self.settings.mu == 0:
            return EMPTY, {}
        return EMPTY, {"previous": trained, "previous-buffers": pack(local.packing.buffers)}
