"""Centralized fitting with Lightning: the paper's recipe (section 4), resumable by epoch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn

from bench.core.config import Protocol
from bench.data.loader import Part
from bench.store.layout import BEST, LAST
from models.network import Network
from models.predictor import Card, NetworkPredictor, Predictor
from models.recipes.batches import EvalBatches, Preparation, TrainBatches, has_batch_norm, pieces_notes, pieces_of
from models.recipes.callbacks import STATE, BestCheckpoint, History, Interrupted, OnEvent, Schedule
from models.recipes.classifier import Classifier
from models.recipes.loss import loss_of
from models.recipes.refit import refit
from models.recipes.state import Started, going_on, load_weights
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
        micro_batches: in how many pieces a batch is to be computed (more than 1 after running out of memory).
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

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def card(self) -> Card:
        """What a predictor of this fit says of itself."""
        return Card.of(self.model, self.classes, self.image_size, self.prepare, self.protocol.tuning)

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
        columns: figures for the result's row.
        notes: what a reader of the row must know.
        holders: which client each image of a part belongs to; None where there are no clients.
    """

    history: list[dict[str, Any]]
    predictor: Predictor
    columns: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    holders: Callable[[Part], NDArray[np.str_]] | None = None


def fit(context: FitContext) -> FitOutcome:
    """Train until the last epoch or until the validation accuracy stays (early stopping), then take the best weights.

    Goes on from `last.ckpt` where the folder holds one.

    Raises:
        Interrupted: when asked to stop; the last finished epoch is saved.
    """
    quiet()
    start = {name: tensor.clone() for name, tensor in context.module.state_dict().items()}
    best = BestCheckpoint(context.folder)
    chosen = [Schedule(context.protocol), _early_stopping(context.protocol), best]
    history = _train(context, chosen)
    columns = {"best_epoch": float(best.best_epoch), "epochs_run": float(len(history.rows))}
    in_pieces = pieces_notes(context.batch_size, context.pieces, has_batch_norm(context.module))
    outcome = FitOutcome(history.rows, context.predictor(), columns, in_pieces)
    return refit(context, outcome, start, _train) if context.protocol.refit else outcome


def _train(context: FitContext, callbacks: list[Callback]) -> History:
    """Run the epochs that are left, then put the kept weights into the context's module and into its folder."""
    history = History(context.on_event, context.should_stop)
    classifier = Classifier(
        context.module,
        context.protocol,
        context.train_batches,
        context.val_batches,
        context.fit_seed,
        context.batch_size / context.pieces,
        loss_of(context.protocol, context.data.train.labels, context.num_classes),
    )
    _run_epochs(context, classifier, [history, *callbacks])
    load_weights(context.module, context.folder / BEST)
    return history


def _run_epochs(context: FitContext, classifier: Classifier, callbacks: list[Callback]) -> None:
    """Have Lightning run the epochs that are left, from `last.ckpt` where the folder holds one."""
    last = context.folder / LAST
    with cpu_threads(context):
        started = Started()
        trainer = _trainer(context, [*callbacks, started])
        try:
            if not last.exists():
                trainer.fit(classifier)
                return
            with going_on(last, started):
                trainer.fit(classifier, ckpt_path=last, weights_only=True)
        except SIGTERMException as error:
            # Lightning's own handler hears SIGTERM beside ours, and would end the process.
            raise Interrupted from error


@contextmanager
def cpu_threads(context: FitContext) -> Iterator[None]:
    """One thread for a head on stored maps: its tensors are too small for two, which lose most on a busy machine."""
    before = torch.get_num_threads()
    if context.protocol.tuning == "head" and context.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Patience(EarlyStopping):
    """Early stopping that also holds when a fit is resumed from the very epoch that ended it."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _early_stopping(protocol: Protocol) -> EarlyStopping:
    patience = protocol.early_stopping_patience
    return _Patience("val_accuracy", mode="max", patience=patience, check_on_train_epoch_end=True)


def _trainer(context: FitContext, callbacks: list[Callback]) -> pl.Trainer:
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[context.protocol.precision]
    device = context.device
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=precision,
        max_epochs=context.protocol.epochs,
        accumulate_grad_batches=context.pieces,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=context.folder,
    )


def quiet() -> None:
    """Keep Lightning's advice off the terminal."""
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Both are advice to whoever writes a training script, and neither applies: batches come ready-made from memory.
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*pytorch_lightning.*")
