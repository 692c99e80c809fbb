"""The server's state after a round, in one atomic file, so that a killed server goes on from its last round."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from federated.server.aggregate import Model

_LAYOUT = 3


@dataclass(frozen=True)
class Progress:
    """How far training has come.

    Attributes:
        best: the model of the first round with the highest validation accuracy.
        memory: the algorithm's own arrays at the server (moments, momentum).
        history: a row a round.
    """

    round: int
    model: Model
    best: Model
    best_round: int = 0
    best_accuracy: float = -1.0
    history: tuple[dict[str, Any], ...] = ()
    memory: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    @classmethod
    def start(cls, model: Model) -> Progress:
        """Before the first round."""
        return cls(0, model, model)

    def advanced(
        self, model: Model, row: dict[str, Any], memory: dict[str, np.ndarray[Any, Any]], judged: bool = True
    ) -> Progress:
        """After a further round with this row.

        A round can only be the best when it has an update or follows one, and was evaluated. Under a secret draw the
        row tells of nobody, and every round counts: its noise is released whoever answered.

        Args:
            judged: whether any client holds validation images; where none does, the newest model counts as the best.
        """
        history = (*self.history, row)
        following = replace(self, round=self.round + 1, model=model, history=history, memory=memory)
        accuracy = row["val_accuracy"]
        trained = not row["skipped"] and any(each["clients_answered"] != 0 for each in history)
        if not trained or (accuracy is None and judged) or (accuracy is not None and accuracy <= self.best_accuracy):
            return following
        reached = self.best_accuracy if accuracy is None else accuracy
        return replace(following, best=model, best_round=following.round, best_accuracy=reached)


def save(path: Path, progress: Progress) -> None:
    """Write the state atomically."""
    arrays = {f"model.{name}": value for name, value in vars(progress.model).items()}
    arrays |= {f"memory.{name}": value for name, value in progress.memory.items()}
    if progress.best is not progress.model:
        arrays |= {f"best.{name}": value for name, value in vars(progress.best).items()}
    about = {name: getattr(progress, name) for name in ("round", "best_round", "best_accuracy", "history")}
    text = json.dumps({"layout": _LAYOUT, **about})
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, about=np.frombuffer(text.encode(), np.uint8), **arrays)
    write_bytes(path, stream.getvalue())


def load(path: Path, start: Progress) -> Progress:
    """Read the state, or return `start` where there is no file.

    Raises:
        UserError: a file of another layout or of another model.
    """
    if not path.is_file():
        return start
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it to train from the first round") from error
    model = _model(arrays, "model")
    if about["layout"] != _LAYOUT or len(model.weights) != len(start.model.weights):
        raise UserError(f"{path} belongs to another model or version; delete it to train from the first round")
    best = _model(arrays, "best") if "best.weights" in arrays else model
    memory = {name.removeprefix("memory."): value for name, value in arrays.items() if name.startswith("memory.")}
    history = tuple(about["history"])
    return Progress(about["round"], model, best, about["best_round"], about["best_accuracy"], history, memory)


def _model(arrays: dict[str, np.ndarray[Any, Any]], prefix: str) -> Model:
    return Model(*(arrays[f"{prefix}.{name}"] for name in ("weights", "buffers", "shared")))
