"""What happens at the end of an epoch: history, learning rate, best weights, the state to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from safetensors.torch import save_file
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from bench.core.atomic import replacing
from bench.core.config import Protocol
from bench.measure.throughput import IMAGES, SECONDS
from bench.store.layout import BEST, LAST, epoch_path
from models.recipes.classifier import Classifier

STATE = "state"
LARGE, SHARE = 20_000_000, 0.1

OnEvent = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """The user asked to stop; the last finished epoch is on the disk."""


class Schedule(Callback):
    """The learning-rate schedule, stepped by the validation accuracy.

    Lightning does not step a plateau schedule when it resumes from the end of an epoch, which would make a resumed fit
    differ from an undisturbed one. So the schedule is held here and its state travels with the callbacks'.
    """

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._schedule: LRScheduler | ReduceLROnPlateau | None = None
        self._state: dict[str, Any] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the schedule, and put a resumed one where it was."""
        optimizer = trainer.optimizers[0]
        protocol = self._protocol
        if protocol.schedule == "plateau":
            self._schedule = ReduceLROnPlateau(
                optimizer, mode="max", factor=protocol.schedule_factor, patience=protocol.schedule_patience
            )
        elif protocol.schedule == "cosine":
            self._schedule = CosineAnnealingLR(optimizer, T_max=protocol.epochs)
        if self._schedule is not None and self._state is not None:
            self._schedule.load_state_dict(self._state)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Step it."""
        if isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(float(trainer.callback_metrics["val_accuracy"]))
        elif self._schedule is not None:
            self._schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """The schedule's own state."""
        return {"schedule": self._schedule.state_dict() if self._schedule is not None else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the optimizer is there."""
        self._state = state_dict["schedule"]


class History(Callback):
    """A row an epoch; also the voice of the fit and the place where a request to stop is heard."""

    def __init__(self, on_event: OnEvent, should_stop: Callable[[], bool]) -> None:
        self.rows: list[dict[str, float]] = []
        self._on_event = on_event
        self._should_stop = should_stop
        self._started = 0.0
        self._trained = 0.0
        self._images = 0
        self._rate = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock, and note the rate before the schedule steps."""
        self._started = self._trained = time.perf_counter()
        self._images = 0
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell of the batch; leave when asked to.

        Args:
            trainer, pl_module, outputs, batch, batch_idx: as Lightning hands them.
        """
        if self._should_stop():
            raise Interrupted
        images = len(batch[1])
        self._images += images
        if batch_idx + 1 == trainer.num_training_batches:
            # Validation follows within the epoch; what a GPU has been told it has not done yet.
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            self._trained = time.perf_counter()
        step = {"epoch": trainer.current_epoch, "batch": batch_idx + 1, "batches": trainer.num_training_batches}
        self._on_event({"event": "batch", "images": images, **step})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row."""
        assert isinstance(pl_module, Classifier)
        train_loss, train_accuracy = pl_module.train_tally.means()
        val_loss, val_accuracy = pl_module.val_tally.means()
        row = {
            "epoch": trainer.current_epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": self._rate,
            IMAGES: self._images,
            SECONDS: self._trained - self._started,
            "seconds": time.perf_counter() - self._started,
        }
        self.rows.append(row)
        self._on_event({"event": "epoch", **row})

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the rows of the stopped fit."""
        self.rows = list(state_dict["rows"])


def is_large(module: torch.nn.Module) -> bool:
    """Whether more than `LARGE` numbers are trained."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad) > LARGE


class KeptEpochs(Callback):
    """Writes what would be evaluated after every epoch, so that it can be asked later what another choice had given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; a repeated epoch writes the same again."""
        assert isinstance(pl_module, Classifier)
        path = epoch_path(self._folder, trainer.current_epoch)
        path.parent.mkdir(exist_ok=True)
        save_weights(pl_module, path, trainer.current_epoch)


def save_weights(classifier: Classifier, path: Path, epoch: int) -> None:
    """Write what is evaluated of a classifier to the file `path`, with the epoch that made it."""
    tensors = {name: tensor.contiguous() for name, tensor in classifier.evaluated_state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"epoch": str(epoch)})


class BestCheckpoint(Checkpoint):
    """Writes the best weights and then the state to resume from; Lightning runs checkpoints after other callbacks.

    A kill between the two writes does no harm: the repeated epochs write the same best weights again. The state of more
    than `LARGE` numbers is not written after every epoch where that would take more than `SHARE` of the time: with a
    small dataset, writing the 1.4 GB of VGG-19's head took longer than its epochs.

    Args:
        folder: of the fit.
        clock: seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.perf_counter) -> None:
        self._folder = folder
        self._clock = clock
        self._due = 0.0
        self.best_accuracy = -1.0
        self.best_epoch = -1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        assert isinstance(pl_module, Classifier)
        accuracy = pl_module.val_tally.means()[1]
        if self.is_better(accuracy):
            self.best_accuracy, self.best_epoch = accuracy, trainer.current_epoch
            save_weights(pl_module, self._folder / BEST, self.best_epoch)
        if is_large(pl_module) and self._clock() < self._due:
            return
        started = self._clock()
        with replacing(self._folder / LAST) as temporary:
            trainer.save_checkpoint(temporary)
        self._due = started + (self._clock() - started) / SHARE

    def is_better(self, accuracy: float) -> bool:
        """Whether an epoch's validation accuracy is the best so far."""
        return accuracy > self.best_accuracy

    def state_dict(self) -> dict[str, Any]:
        """Which epoch was best."""
        return {"best_accuracy": self.best_accuracy, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.best_accuracy = state_dict["best_accuracy"]
        self.best_epoch = state_dict["best_epoch"]
