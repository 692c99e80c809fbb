"""The server's state after a round, in one atomic file, so that a killed server goes on from its last round."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, with_config
from typing_extensions import TypedDict

from bench.core.atomic import write_bytes
from bench.core.errors import DamagedState, UserError
from bench.core.schema import parsed_json, read_arrays
from federated.server.vectors import Model

_LAYOUT = 3
_ANEW = "delete it to train from the first round"


class _About(TypedDict):
    layout: int
    round: Annotated[int, Field(ge=0)]
    best_round: Annotated[int, Field(ge=0)]
    best_accuracy: FiniteFloat
    history: list[_Row]


@with_config(ConfigDict(extra="allow"))
class _Row(TypedDict):
    round: int
    val_accuracy: FiniteFloat | None
    skipped: bool | None
    clients_answered: int | None


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
            model: after the round.
            row: of the history.
            memory: of the algorithm, as `Algorithm.memory` gives it.
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
        DamagedState: a file that is damaged, of another layout or of another model.
    """
    if not path.exists():
        return start
    try:
        arrays = read_arrays(path, _ANEW)
        about = _about(path, arrays.pop("about", np.empty(0, np.uint8)))
        model = _model(path, arrays, "model", start.model)
        best = _model(path, arrays, "best", start.model) if "best.weights" in arrays else model
    except UserError as error:
        raise DamagedState(str(error)) from error
    memory = {name.removeprefix("memory."): value for name, value in arrays.items() if name.startswith("memory.")}
    history = tuple(dict(row) for row in about["history"])
    return Progress(about["round"], model, best, about["best_round"], about["best_accuracy"], history, memory)


def _about(path: Path, text: NDArray[Any]) -> _About:
    about = parsed_json(path, text.tobytes(), _About, _ANEW, nan=True)
    if about["layout"] != _LAYOUT or about["round"] != len(about["history"]) or about["best_round"] > about["round"]:
        raise UserError(f"{path} belongs to another model or version; {_ANEW}")
    return about


def _model(path: Path, arrays: dict[str, np.ndarray[Any, Any]], prefix: str, like: Model) -> Model:
    """The vectors of a model, of the lengths and types that the one to be trained has."""
    found = {name: arrays.get(f"{prefix}.{name}") for name in vars(like)}
    for name, vector in vars(like).items():
        stored = found[name]
        if stored is None or stored.shape != vector.shape or stored.dtype.kind != "f" or not np.isfinite(stored).all():
            raise UserError(f"{path} belongs to another model or version; {_ANEW}")
    return Model(**found)  # type: ignore[arg-type]
