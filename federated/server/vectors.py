"""What the server holds of a model, and what a client's reply holds."""

from __future__ import annotations

from dataclasses import dataclass

from federated.transport.packing import Vector


@dataclass(frozen=True)
class Model:
    """The server's vectors: trainable [P], buffers [B], what the algorithm sends beside them (mostly nothing)."""

    weights: Vector
    buffers: Vector
    shared: Vector


@dataclass(frozen=True)
class Update:
    """A client's decoded reply."""

    weights: Vector
    buffers: Vector
    shared: Vector
    examples: float
    steps: float
