"""The LightningModule: one loss, one optimizer, per-epoch tallies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.config import Protocol
from bench.core.identity import derive_seed

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
    """

    def __init__(
        self,
        module: nn.Module,
        protocol: Protocol,
        train_batches: Callable[[int], Batches],
        val_batches: Callable[[], Batches],
        seed: int,
        mean_piece: float | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self._protocol = protocol
        self._train_batches = train_batches
        self._val_batches = val_batches
        self._seed = seed
        self._mean_piece = mean_piece
        self.train_tally = Tally()
        self.val_tally = Tally()

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
        torch.manual_seed(derive_seed(self._seed, "epoch", self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The mean cross-entropy of a batch, or of a piece of one in proportion to its images."""
        loss = self._step(batch, self.train_tally)
        return loss if self._mean_piece in (None, len(batch[1])) else loss * (len(batch[1]) / self._mean_piece)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.val_tally = Tally()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Count a validation batch."""
        self._step(batch, self.val_tally)

    def on_validation_epoch_end(self) -> None:
        """Tell the callbacks that watch the validation accuracy."""
        self.log("val_accuracy", self.val_tally.means()[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The protocol's optimizer over what is trained."""
        return make_optimizer(self.module.parameters(), self._protocol)

    def _step(self, batch: tuple[Tensor, Tensor], tally: Tally) -> Tensor:
        inputs, labels = batch
        logits = self(inputs)
        loss = F.cross_entropy(logits.float(), labels)
        tally.add(loss, logits, labels)
        return loss


def make_optimizer(parameters: Iterable[nn.Parameter], protocol: Protocol) -> torch.optim.Optimizer:
    """The protocol's optimizer over those of the parameters that ask for a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = protocol.learning_rate, protocol.weight_decay
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=protocol.momentum, weight_decay=decay)
    adam = torch.optim.Adam if protocol.optimizer == "adam" else torch.optim.AdamW
    # The fused step computes the same update in a third of the time on the CPU.
    return adam(trained, lr=rate, weight_decay=decay, fused=True)
