"""The LightningModule: one loss, one optimizer, per-epoch tallies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.core.config import Protocol
from bench.core.identity import derive_seed
from bench.measure.seeding import seed_torch
from models.recipes.loss import Loss, averaged, mix, rated_groups

Batches = Iterable[tuple[Tensor, Tensor]]


class Tally:
    """Sums of loss and hits over an epoch, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.hits: Tensor | float = 0.0
        self.count = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: mean loss, logits [B, k], labels [B]."""
        self.loss = self.loss + loss.detach() * len(labels)
        self.hits = self.hits + (logits.detach().argmax(1) == labels).sum()
        self.count += len(labels)

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy."""
        return float(self.loss) / self.count, float(self.hits) / self.count


class Classifier(pl.LightningModule):
    """Trains a module by cross-entropy on logits (reading row 3: softmax is applied once, in the loss).

    Args:
        module: the part of the network that is trained: the whole, or the head on stored feature maps.
        train_batches: the batches of an epoch number.
        val_batches: the validation batches.
        seed: of dropout; every epoch starts its own stream, so that a resumed fit draws what an undisturbed one does.
        mean_piece: images in a piece on average, where a batch is given out in pieces whose gradients are averaged: a
            larger piece then counts for more. None where all are alike.
        loss: of training and validation; the plain mean cross-entropy if None.
        compiled: train through a compiled twin of the module, whose parameters are the module's own.
    """

    def __init__(
        self,
        module: nn.Module,
        protocol: Protocol,
        train_batches: Callable[[int], Batches],
        val_batches: Callable[[], Batches],
        seed: int,
        mean_piece: float | None = None,
        loss: Loss | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self._protocol = protocol
        self._train_batches = train_batches
        self._val_batches = val_batches
        self._seed = seed
        self._mean_piece = mean_piece
        self._loss = loss or Loss()
        self._average: dict[str, Tensor] = {}
        self._averaged_steps = 0
        self.train_tally = Tally()
        self.val_tally = Tally()
        # A callable and no layer of its own: the checkpoint would hold every weight twice.
        self._step: Callable[[Tensor], Tensor] = _compiled(module) if compiled else self.forward

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, k] of images [B, 3, H, W] or of feature maps [B, C, h, w]."""
        logits: Tensor = self.module(inputs)
        return logits

    def train_dataloader(self) -> Batches:
        """The batches of the current epoch (asked for anew every epoch)."""
        return self._train_batches(self.current_epoch)

    def val_dataloader(self) -> Batches:
        """The validation batches."""
        return self._val_batches()

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's own random stream."""
        self.train_tally = Tally()
        seed_torch(derive_seed(self._seed, "epoch", self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The mean cross-entropy of a batch, or of a piece of one in proportion to its images."""
        inputs, labels = batch
        if self._protocol.mix == "none":
            logits = self._step(inputs)
            loss = self._loss(logits, labels)
        else:
            mixed = mix(inputs, labels, self._protocol)
            logits = self._step(mixed.inputs)
            loss = self._loss.of_mixture(logits, mixed)
        self.train_tally.add(loss, logits, labels)
        return loss if self._mean_piece in (None, len(batch[1])) else loss * (len(batch[1]) / self._mean_piece)

    def on_train_batch_end(self, outputs: object, batch: object, batch_index: int) -> None:
        """Take the optimizer's step into the moving average, where the protocol asks for one.

        Args:
            outputs, batch, batch_index: as Lightning hands them.
        """
        if self._protocol.ema_decay and self.trainer.global_step > self._averaged_steps:
            step, self._averaged_steps = self._averaged_steps, self.trainer.global_step
            self._average = averaged(self._average, self.module, step, self._protocol.ema_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the moving average, so that a resumed fit goes on with it."""
        if self._average:
            checkpoint["average"] = {"steps": self._averaged_steps, "state": self._average}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        if stored := checkpoint.get("average"):
            self._averaged_steps, self._average = stored["steps"], stored["state"]

    @property
    def evaluated_state(self) -> dict[str, Tensor]:
        """What is validated and kept: the moving average where there is one, or else the module's own state."""
        return self._average or self.module.state_dict()

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.val_tally = Tally()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Count a validation batch."""
        inputs, labels = batch
        logits = functional_call(self.module, self._average, (inputs,)) if self._average else self(inputs)
        self.val_tally.add(self._loss(logits, labels), logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Tell the callbacks that watch the validation accuracy."""
        self.log("val_accuracy", self.val_tally.means()[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The protocol's optimizer over what is trained."""
        return make_optimizer(self.module.parameters(), self._protocol, self.module)


def _compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    run: Any = torch.compile(module, dynamic=False)
    return lambda inputs: run(inputs)


def make_optimizer(
    parameters: Iterable[nn.Parameter], protocol: Protocol, module: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The protocol's optimizer over those of the parameters that ask for a gradient.

    Args:
        module: whose parameters they are: the rates of its blocks differ where the protocol has a `layer_decay`.
    """
    trained: list[Any] = [parameter for parameter in parameters if parameter.requires_grad]
    if module is not None and protocol.layer_decay < 1:
        trained = rated_groups(module, protocol.learning_rate, protocol.layer_decay)
    rate, decay = protocol.learning_rate, protocol.weight_decay
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=protocol.momentum, weight_decay=decay)
    adam = torch.optim.Adam if protocol.optimizer == "adam" else torch.optim.AdamW
    # The fused step computes the same update in a third of the time on the CPU.
    return adam(trained, lr=rate, weight_decay=decay, fused=True)
