"""What is timed: a backbone or a head under settings, and the key that says so."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch

import bench
from bench.core.config import Protocol
from bench.core.identity import digest
from bench.harness.networks import tf32
from bench.measure.timing import description
from models.registry import ModelSpec

Part = Literal["backbone", "head"]


@dataclass(frozen=True)
class Asked:
    """A network whose batch times are wanted."""

    model: ModelSpec
    num_classes: int
    image_size: int
    protocol: Protocol
    device: torch.device

    @property
    def parts(self) -> tuple[Timed, Timed]:
        """What is timed: the backbone and the head."""
        return Timed("backbone", self), Timed("head", self)


@dataclass(frozen=True)
class Timed:
    """A part of a network, with all that its times depend on."""

    part: Part
    asked: Asked

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What the times depend on, as plain values."""
        asked, protocol = self.asked, self.asked.protocol
        about = description(torch.empty(1, device=asked.device), 0, 0, protocol.precision)
        common = {
            "part": self.part,
            "backbone": asked.model.backbone,
            "image_size": asked.image_size,
            "batch_size": protocol.timing_batch_size,
            "tuning": protocol.tuning,
            "precision": protocol.precision,
            "engine": protocol.engine,
            "channels_last": protocol.channels_last,
            "optimizer": [protocol.optimizer, protocol.momentum > 0, protocol.weight_decay > 0],
            "device": about["device"],
            "threads": about["threads"],
            "tf32": tf32(asked.device),
            "versions": [bench.__version__, torch.__version__],
        }
        if self.part == "backbone":
            return common
        return {**common, "head": asked.model.identity()["head"], "classes": asked.num_classes}

    @property
    def key(self) -> str:
        """What its measurement is stored under."""
        return digest(self.identity, length=20)
