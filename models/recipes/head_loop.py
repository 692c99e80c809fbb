"""Lightning's loop over the batches of an epoch, without the hooks that nothing here listens to.

On a head's stored maps Lightning's own loop costs as much as the step itself: what no setting of the trainer turns off
is its search for listeners, about twenty times a batch. Everything around the batches stays Lightning's: epochs,
validation, callbacks, checkpoints and resuming.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.model_helpers import is_overridden

_CALLED = "on_train_batch_end"
_LEFT_OUT = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
_LEFT_OUT_OF_MODULE = (*_LEFT_OUT, "optimizer_step", "optimizer_zero_grad", "backward", "transfer_batch_to_device")


class HeadLoop(_TrainingEpochLoop):
    """Forward, backward and step, then `on_train_batch_end` of those who have it: bit for bit what Lightning computes.

    For one optimizer on one device that is stepped after every batch, without a gradient scaler, whose batches arrive
    on that device.
    """

    @classmethod
    def into(cls, trainer: pl.Trainer) -> None:
        """Put it in the place of a trainer's own loop, before the fit.

        Raises:
            TypeError: a callback listens to what this loop does not call.
        """
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            _refuse(callback, Callback, _LEFT_OUT)
        own = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, own.min_steps, own.max_steps)

    def on_run_start(self, data_fetcher: Any) -> None:
        """Find out once an epoch who listens."""
        super().on_run_start(data_fetcher)
        module = self.trainer.lightning_module
        _refuse(module, pl.LightningModule, _LEFT_OUT_OF_MODULE)
        hears = [callback for callback in self.trainer.callbacks if is_overridden(_CALLED, callback, Callback)]
        self._hears = hears
        self._autocast = self.trainer.precision_plugin.train_step_context

    def advance(self, data_fetcher: Any) -> None:
        """Train on a batch; the first one of a resumed fit Lightning's own way, which knows where it had stopped."""
        if self.restarting:
            super().advance(data_fetcher)
            return
        trainer, module = self.trainer, self.trainer.lightning_module
        batch, _, _ = next(data_fetcher)
        number, progress = self.batch_idx + 1, self.batch_progress
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        progress.increment_started()
        outputs = {"loss": self._step(batch, number)}
        progress.increment_processed()
        for callback in self._hears:
            callback.on_train_batch_end(trainer, module, outputs, batch, number)
        module.on_train_batch_end(outputs, batch, number)
        progress.increment_completed()

    def _step(self, batch: Any, number: int) -> torch.Tensor:
        optimizer = self.trainer.optimizers[0]
        counts = self.automatic_optimization.optim_progress.optimizer
        counts.step.increment_ready()
        with self._autocast():
            loss: torch.Tensor = self.trainer.lightning_module.training_step(batch, number)
        counts.zero_grad.increment_ready()
        counts.zero_grad.increment_started()
        optimizer.zero_grad()
        counts.zero_grad.increment_completed()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        counts.step.increment_completed()
        return loss.detach()

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Validate after the last batch."""
        if self.restarting or self.batch_progress.is_last_batch:
            super().on_advance_end(data_fetcher)
            return
        self._batches_that_stepped += 1
        if self.trainer.received_sigterm:
            raise SIGTERMException


def _refuse(listener: Any, base: type, hooks: tuple[str, ...]) -> None:
    for hook in hooks:
        if is_overridden(hook, listener, base):
            raise TypeError(f"{type(listener).__name__} has {hook}, which this loop does not call")
