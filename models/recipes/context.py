"""What a fit is handed and what it leaves behind: the contract of every recipe and every federated regime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.core.config import Protocol
from bench.data.loader import Part
from models.network import Network
from models.predictor import Card, NetworkPredictor, Predictor
from models.recipes.batches import EvalBatches, Preparation, TrainBatches, pieces_of
from models.recipes.callbacks import STATE, OnEvent
from models.registry import ModelSpec


@dataclass(frozen=True)
class FitData:
    """What a fit may see. The test set is not here."""

    train: Part
    val: Part


@dataclass(frozen=True)
class FitContext:
    """Everything that a fit is handed; it knows nothing of who runs beside it.

    Attributes:
        model: the registered model; its `options` are the recipe's.
        classes: the names of the k classes.
        image_size: side of the square images, pixels.
        network: built from the cell's seed, initial weights loaded; it is trained in place.
        prepare: stored inputs to tensors; with `tuning = "head"` the parts hold feature maps.
        data_seed, fit_seed: of the batches, and of dropout.
        folder: where the state to resume from and the best weights are written.
        keep_epochs: keep every epoch's weights in the folder.
        micro_batches: in how many pieces a batch is to be computed (more than 1 after running out of memory).
        test: the test images, for a recipe that says that it leaks (`RecipeSpec.sees_test`); None for every other.
        compile: train a whole network through torch.compile.
    """

    model: ModelSpec
    classes: tuple[str, ...]
    image_size: int
    network: Network
    protocol: Protocol
    regime: str
    data: FitData
    prepare: Preparation
    data_seed: int
    fit_seed: int
    folder: Path
    device: torch.device
    on_event: OnEvent = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    micro_batches: int = 1
    test: Part | None = None
    compile: bool = False
    keep_epochs: bool = False

    @property
    def compiled(self) -> bool:
        """Whether training is compiled: of a head on stored maps nothing is."""
        return self.compile and self.protocol.tuning == "full"

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def card(self) -> Card:
        """What a predictor of this fit says of itself."""
        return Card.of(self.model, self.classes, self.image_size, self.prepare, self.protocol)

    def stage(self, name: str) -> FitContext:
        """The same fit with a folder of its own for its state: a recipe of several fits has one for each."""
        return replace(self, folder=self.folder / STATE / name)

    def predictor(self) -> NetworkPredictor:
        """The network as it is now, to answer with."""
        return NetworkPredictor(self.card, self.network, self.device)

    @property
    def module(self) -> nn.Module:
        """What is trained, and what the parts' inputs go into: the network, or its head."""
        return self.network if self.protocol.tuning == "full" else self.network.head

    @property
    def batch_size(self) -> int:
        """Images in a batch of the training part."""
        return min(self.protocol.batch_size, len(self.data.train))

    @property
    def pieces(self) -> int:
        """In how many pieces such a batch is computed: `micro_batches`, or as many as it has images for."""
        return pieces_of(self.batch_size, self.micro_batches)

    def train_batches(self, epoch: int) -> TrainBatches:
        """The training batches of an epoch."""
        return TrainBatches(
            self.data.train,
            self.prepare,
            self.batch_size,
            self.data_seed,
            epoch,
            self.pieces,
            balanced=self.protocol.class_balance == "resample",
        )

    def val_batches(self) -> EvalBatches:
        """The validation batches."""
        return EvalBatches(self.data.val, self.prepare)


@dataclass(frozen=True)
class FitOutcome:
    """What a fit leaves behind.

    Attributes:
        history: a row an epoch or round.
        predictor: what was fitted, and all that is kept of it.
        columns: metrics for the result's row.
        notes: what a reader of the row must know.
        holders: which client each image of a part belongs to; None where there are no clients.
        own: what each image's own client would answer with a model of its own, probabilities [N, k] of a part; None
            where clients have none.
        found: the model whose network was fitted, where the fit searched for it: its cost is what the row states.
    """

    history: list[dict[str, Any]]
    predictor: Predictor
    columns: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    holders: Callable[[Part], NDArray[np.str_]] | None = None
    own: Callable[[Part], NDArray[np.float32]] | None = None
    found: ModelSpec | None = None
