"""Centralized fitting with Lightning: the paper's recipe (section 4), resumable by epoch."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.utilities.exceptions import SIGTERMException

from bench.core.config import Protocol
from bench.store.layout import BEST, LAST
from models.recipes.batches import has_batch_norm, pieces_notes
from models.recipes.callbacks import BestCheckpoint, History, Interrupted, KeptEpochs, Schedule, is_large
from models.recipes.classifier import Classifier
from models.recipes.context import FitContext, FitOutcome
from models.recipes.head_loop import HeadLoop
from models.recipes.loss import loss_of
from models.recipes.refit import refit
from models.recipes.registry import OWN_PROTOCOL
from models.recipes.state import Started, going_on, load_weights

COMPILED = "trained compiled (torch.compile), whose last bits are others than those of an ordinary fit"
_ASK_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def fit(context: FitContext) -> FitOutcome:
    """Train until the last epoch or until the validation accuracy stays (early stopping), then take the best weights.

    Goes on from `last.ckpt` where the folder holds one.

    Raises:
        Interrupted: when asked to stop; the last finished epoch is saved.
    """
    quiet()
    context = with_own_protocol(context)
    start = {name: tensor.clone() for name, tensor in context.module.state_dict().items()}
    best = BestCheckpoint(context.folder)
    chosen = [Schedule(context.protocol), _early_stopping(context.protocol), best]
    kept = [KeptEpochs(context.folder)] if context.keep_epochs else []
    history = _train(context, [*chosen, *kept])
    columns = {"best_epoch": float(best.best_epoch), "epochs_run": float(len(history.rows))}
    in_pieces = pieces_notes(context.batch_size, context.pieces, has_batch_norm(context.module))
    notes = [*in_pieces, *([COMPILED] if context.compiled else [])]
    outcome = FitOutcome(history.rows, context.predictor(), columns, notes)
    return refit(context, outcome, start, _train) if context.protocol.refit else outcome


def with_own_protocol(context: FitContext) -> FitContext:
    """The fit under what its model was published with: the protocol's fields that its option `protocol` names."""
    own = context.model.options.get(OWN_PROTOCOL, {})
    return replace(context, protocol=context.protocol.model_copy(update=dict(own))) if own else context


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
        context.compiled,
    )
    _run_epochs(context, classifier, [history, *callbacks])
    load_weights(context.module, context.folder / BEST)
    return history


def _run_epochs(context: FitContext, classifier: Classifier, callbacks: list[Callback]) -> None:
    """Have Lightning run the epochs that are left, from `last.ckpt` where the folder holds one."""
    last = context.folder / LAST
    with cpu_threads(context), _no_search_for_gpus(context):
        started = Started()
        trainer = _trainer(context, [*callbacks, started])
        if _steps_are_plain(context):
            HeadLoop.into(trainer)
        try:
            if not last.exists():
                trainer.fit(classifier)
                return
            with going_on(last, started):
                trainer.fit(classifier, ckpt_path=last, weights_only=True)
        except SIGTERMException as error:
            # Lightning's own handler hears SIGTERM beside ours, and would end the process.
            raise Interrupted from error


def _steps_are_plain(context: FitContext) -> bool:
    """Whether steps are so small that Lightning's own loop costs as much, and of the kind that the lean one takes."""
    return context.protocol.tuning == "head" and context.pieces == 1 and context.protocol.precision != "fp16"


@contextmanager
def cpu_threads(context: FitContext) -> Iterator[None]:
    """One thread for a small head on stored maps: its tensors are too small for two, which lose on a busy machine."""
    before = torch.get_num_threads()
    if context.protocol.tuning == "head" and context.device.type == "cpu" and not is_large(context.network.head):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_search_for_gpus(context: FitContext) -> Iterator[None]:
    """Each of torch's optimizer steps asks whether there are GPUs, and Lightning has it ask the driver's library.

    On a CPU that library is looked for on the disk again and again, twice a step, which takes longer than the update.
    """
    before = os.environ.get(_ASK_NVML)
    if context.device.type == "cpu":
        os.environ[_ASK_NVML] = "0"
    try:
        yield
    finally:
        os.environ.pop(_ASK_NVML, None) if before is None else os.environ.update({_ASK_NVML: before})


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
