"""Once the epoch is chosen on the validation part, fit again on training and validation images together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from bench.core.atomic import write_bytes
from bench.store.layout import BEST
from models.recipes.callbacks import BestCheckpoint

if TYPE_CHECKING:
    from models.recipes.context import FitContext, FitOutcome

FOLDER = "refit"


class FixedLearningRates(Callback):
    """Gives each epoch the learning rate that it had in the first fit."""

    def __init__(self, rates: list[float]) -> None:
        self._rates = rates

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the epoch's rate."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._rates[trainer.current_epoch] * group.get("factor", 1.0)


class LastCheckpoint(BestCheckpoint):
    """Keeps the last epoch: nothing is left to choose by."""

    def is_better(self, accuracy: float) -> bool:
        """Always."""
        return True


def refit(
    context: FitContext,
    first: FitOutcome,
    start: dict[str, Tensor],
    train: Callable[[FitContext, list[Callback]], Any],
) -> FitOutcome:
    """Train again from the same start, for as many epochs as the chosen one took, at the same learning rates.

    No metric of this fit chooses anything, so that the validation images may be learned from. Its state to resume from
    is in a sub-folder.

    Args:
        first: the outcome of the fit that chose the epoch.
        start: the state that the module had before it.
        train: runs a fit with these callbacks in place of the ones that choose.
    """
    epochs = int(first.columns["best_epoch"]) + 1
    whole = context.data.train.joined(context.data.val)
    again = replace(
        context.stage(FOLDER),
        data=replace(context.data, train=whole),
        protocol=context.protocol.model_copy(update={"epochs": epochs}),
    )
    context.module.load_state_dict(start)
    train(again, [FixedLearningRates([row["learning_rate"] for row in first.history]), LastCheckpoint(again.folder)])
    write_bytes(context.folder / BEST, (again.folder / BEST).read_bytes())
    note = f"refitted on training and validation images ({len(whole)}) for the {epochs} epochs chosen on validation"
    return replace(first, columns={**first.columns, "refit_epochs": float(epochs)}, notes=[*first.notes, note])
