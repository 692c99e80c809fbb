"""FedPer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from federated.algorithms.base import Algorithm, Options

if TYPE_CHECKING:
    from torch import nn


class FedPerOptions(Options):
    """FedPer's own settings."""

    layers: int = Field(1, ge=0, le=100, description="last layers with parameters that stay; 0: FedAvg")


class FedPer(Algorithm):
    """FedAvg of the base layers; the last ones stay with each client (Arivazhagan et al., arXiv 1912.00818, alg. 1).

    Both are trained together. One network is needed for the test set: it has the weighted mean of the clients' own
    layers, which therefore leave the clients once, at the end.
    """

    name = "fedper"
    summary = "FedAvg; the last layers stay with the clients"
    Settings = FedPerOptions
    private = False
    secret = False

    def personal(self, module: nn.Module) -> set[str]:
        """Parameters and buffers of the last layers."""
        from federated.transport.packing import parametric_layers

        layers = parametric_layers(module)[-self.settings.layers :] if self.settings.layers else []
        return {f"{name}.{part}" if name else part for name, layer in layers for part in layer.state_dict()}
