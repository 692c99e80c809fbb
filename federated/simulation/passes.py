"""How many images a federated fit is expected to learn from, and how many passes over the whole those are."""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.config import Federation, Protocol
from federated.data.shares import Shares, share_out
from federated.settings import round_settings_of
from models.recipes.context import FitContext


@dataclass(frozen=True)
class Passes:
    """What a centralized fit must do to learn from as many images as the federated one.

    Attributes:
        expected: images that the steps behind the rounds' updates see, expected over the draws.
        seen: images that `epochs` passes of the centralized fit see.
        epochs, patience: whole passes in all, and those to wait for a better accuracy; at least 1.
    """

    expected: float
    seen: int
    epochs: int
    patience: int

    def note(self) -> str:
        """What a reader of the twin's row must know."""
        return (
            f"centralized twin: at most {self.epochs} passes over all training images ({self.seen} images seen), where "
            f"the federated fit is expected to train on {self.expected:.0f}"
        )


def passes_of(context: FitContext) -> Passes:
    """The passes whose images come nearest to the federated fit's.

    What is matched is the images that steps are taken on: rounds x the sum over the clients of (chance that its update
    is used) x (expected steps) x (images a step). A client's update is used when it is asked (`participation`) and not
    lost (`dropout_rate`); its steps are `local_steps` or `local_epochs` passes, less what stragglers leave undone. Both
    sides drop incomplete batches. Passes that take no step (SVRG's full gradient) are not counted.

    Raises:
        UserError: the training part cannot be dealt to the clients.
    """
    federation, train = context.protocol.federated, context.data.train
    shares = share_out(train, context.data.val, federation, context.num_classes, context.data_seed)
    settings = round_settings_of(context.protocol)
    clients = len(shares.names)
    used = settings.asked(clients) / clients * (1 - federation.dropout_rate)
    a_round = used * _images_a_round(shares, federation, context.protocol.batch_size)
    size = min(context.protocol.batch_size, len(train))
    a_pass = len(train) // size * size
    epochs, patience = (max(1, round(rounds * a_round / a_pass)) for rounds in (settings.rounds, settings.patience))
    return Passes(settings.rounds * a_round, epochs * a_pass, epochs, patience)


def expected_steps(planned: int, straggler_rate: float) -> float:
    """Steps of a client on average: a straggler takes ceil(u * planned) of them, u uniform in (0, 1)."""
    return planned - straggler_rate * (planned - 1) / 2


def _images_a_round(shares: Shares, federation: Federation, batch_size: int) -> float:
    """Images of a round's steps if every client answers."""
    total = 0.0
    for part in shares.train:
        size = min(batch_size, len(part))
        planned = federation.local_steps or federation.local_epochs * (len(part) // size)
        total += size * expected_steps(planned, federation.straggler_rate)
    return total


def twin_protocol(protocol: Protocol, passes: Passes) -> Protocol:
    """The protocol under which the twin trains; it never refits, as no federated fit does."""
    return protocol.model_copy(
        update={
            "optimizer": "sgd",
            "learning_rate": protocol.federated.local_learning_rate,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "none",
            "epochs": passes.epochs,
            "early_stopping_patience": passes.patience,
            "refit": False,
        }
    )
