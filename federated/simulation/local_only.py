"""Local-only training: what each client would have without the federation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict, FiniteFloat, with_config
from safetensors.torch import save_file
from typing_extensions import TypedDict

from bench.core.atomic import replacing, write_json
from bench.core.config import Federation
from bench.core.errors import DamagedState, UserError
from bench.core.schema import read_json
from bench.measure.clients import VAL_LOCAL_MODEL_COLUMNS, over_clients
from bench.measure.throughput import IMAGES, SECONDS
from bench.store.layout import ALONE, BEST, alone_file
from federated.client import training as local
from federated.client.client import client_seed
from federated.client.training import Work
from federated.data.shares import PartData, Shares, in_pieces, share_out, write_partition
from federated.simulation.own import own_answers
from models.inference.precision import computing_in
from models.recipes.batches import has_batch_norm
from models.recipes.callbacks import Interrupted
from models.recipes.context import FitContext, FitOutcome
from models.recipes.state import load_weights


@with_config(ConfigDict(extra="allow"))
class _Trained(TypedDict):
    client: int
    train_loss: FiniteFloat
    train_accuracy: FiniteFloat
    best_round: int
    val_loss: FiniteFloat
    val_accuracy: FiniteFloat
    own_val_accuracy: FiniteFloat | None


def fit(context: FitContext) -> FitOutcome:
    """Train every client alone from the same initial weights, for the federation's number of passes.

    One network must answer for the row: it is the client whose model is the median on the whole validation part.
    The mean, the worst and the spread over the clients' models on that part stand beside it. Goes on after the last
    finished client.

    Raises:
        Interrupted: when asked to stop.
    """
    federation = context.protocol.federated
    shares = share_out(context.data.train, context.data.val, federation, context.num_classes, context.data_seed)
    write_partition(context.folder, shares, context.num_classes, federation.partition)
    initial = {name: tensor.clone() for name, tensor in context.module.state_dict().items()}
    rows = _finished(context.folder / ALONE)
    with torch.random.fork_rng(devices=[]):
        for partition in range(len(rows), len(shares.names)):
            context.module.load_state_dict(initial)
            with computing_in(context.module, context.protocol.precision):
                rows.append(_train_one(context, shares, partition))
            _save(context, alone_file(partition))
            write_json(context.folder / ALONE, rows)
            context.on_event({"event": "epoch", "epoch": partition, **rows[-1]})
    median = int(np.argsort([row["val_accuracy"] for row in rows], kind="stable")[(len(rows) - 1) // 2])
    load_weights(context.module, context.folder / alone_file(median))
    _save(context, BEST)
    notes = [*_notes(shares, rows, median), *in_pieces(context, shares, has_batch_norm(context.module))]

    def become(partition: int) -> None:
        load_weights(context.module, context.folder / alone_file(partition))

    own = own_answers(context, shares, become)
    return FitOutcome(rows, context.predictor(), _columns(rows, median), notes, shares.holders, own)


def _train_one(context: FitContext, shares: Shares, partition: int) -> dict[str, Any]:
    """Train one client; choose its round on its own validation images; judge it on everybody's."""
    federation = context.protocol.federated
    parts = shares.train[partition], shares.val[partition]
    seeds = client_seed(context.data_seed, partition), client_seed(context.fit_seed, partition)
    data = PartData(*parts, context.prepare, context.protocol.batch_size, seeds[0])
    best, accuracy, waited = _state(context), -1.0, 0
    row: dict[str, Any] = {}
    images, seconds = 0, 0.0
    for number in range(1, (federation.rounds or context.protocol.epochs) + 1):
        if context.should_stop():
            raise Interrupted
        steps, pieces = _steps(federation, data), context.micro_batches
        progress = local.train(context.module, data, _work(context, number), steps, seeds[1], micro_batches=pieces)
        images, seconds = images + progress.images, seconds + progress.seconds
        _, own, count = local.evaluate(context.module, data.val())
        waited += 1
        if count == 0 or own > accuracy:
            best, accuracy, waited = _state(context), own, 0
            row = {"train_loss": progress.loss, "train_accuracy": progress.accuracy, "best_round": number}
        if waited >= context.protocol.early_stopping_patience:
            break
    context.module.load_state_dict(best)
    loss, everywhere, _ = local.evaluate(context.module, context.val_batches())
    own_accuracy = None if np.isnan(accuracy) or accuracy < 0 else accuracy
    row |= {"val_loss": loss, "val_accuracy": everywhere, "own_val_accuracy": own_accuracy}
    return {"client": partition, **row, IMAGES: images, SECONDS: seconds}


def _work(context: FitContext, number: int) -> Work:
    federation = context.protocol.federated
    return Work(
        round=number,
        seed=context.fit_seed,
        learning_rate=federation.local_learning_rate,
        epochs=federation.local_epochs,
        steps=federation.local_steps,
    )


def _steps(federation: Federation, data: PartData) -> int:
    return federation.local_steps or federation.local_epochs * data.steps_per_epoch


def _state(context: FitContext) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in context.module.state_dict().items()}


def _save(context: FitContext, name: str) -> None:
    tensors = {key: tensor.contiguous() for key, tensor in context.module.state_dict().items()}
    with replacing(context.folder / name) as temporary:
        save_file(tensors, temporary)


def _finished(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return list(read_json(path, list[_Trained], "train the clients anew"))  # type: ignore[arg-type]
    except UserError as error:
        raise DamagedState(str(error)) from error


def _columns(rows: list[dict[str, Any]], median: int) -> dict[str, float]:
    return {
        "clients": float(len(rows)),
        "median_client": float(median),
        **over_clients([row["val_accuracy"] for row in rows], VAL_LOCAL_MODEL_COLUMNS),
        "up_mb": 0.0,
        "down_mb": 0.0,
    }


def _notes(shares: Shares, rows: list[dict[str, Any]], median: int) -> list[str]:
    notes = [
        f"{len(shares.names)} clients trained alone; the predictions are those of {shares.names[median]}, the median "
        "on the whole validation part"
    ]
    blind = [shares.names[row["client"]] for row in rows if row["own_val_accuracy"] is None]
    return notes + (
        [f"without validation images of their own, their last round counts: {', '.join(blind)}"] * bool(blind)
    )
