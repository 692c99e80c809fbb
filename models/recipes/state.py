"""What a killed fit left behind: read as data, and set aside where it cannot be gone on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bench.core.errors import DamagedState, UserError
from bench.core.schema import MOST_ARRAYS, check_regular
from bench.store.layout import CELL, FAILURE
from models.recipes.callbacks import Interrupted

T = TypeVar("T")
SET_ASIDE = "set-aside"


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the weights that a fit kept (safetensors) into its module.

    Raises:
        DamagedState: the file is missing, damaged, or of another network.
    """
    try:
        check_regular(path, "the fit begins anew", MOST_ARRAYS)
        module.load_state_dict(load_file(path))
    except UserError as error:
        raise DamagedState(str(error)) from error
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise DamagedState(f"{path} does not hold this network's weights ({_line(error)})") from error


def set_aside(folder: Path) -> Path:
    """Move whatever an earlier fit left in a cell's folder into a sub-folder of its own, which is returned."""
    number = 1 + sum(1 for _ in folder.glob(f"{SET_ASIDE}-*"))
    aside = folder / f"{SET_ASIDE}-{number}"
    aside.mkdir()
    for path in list(folder.iterdir()):
        # Hidden files are locks that this process holds.
        if path.name not in (CELL, FAILURE) and not path.name.startswith((".", SET_ASIDE)):
            path.rename(aside / path.name)
    return aside


class Started(Callback):
    """Knows whether the epochs began, and refuses an optimizer's memory that is not of these parameters."""

    def __init__(self) -> None:
        self.started = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called once what is in the file has been put in place."""
        for optimizer in trainer.optimizers:
            for parameter, memory in optimizer.state.items():
                _check_memory(parameter, memory)
        self.started = True


@contextmanager
def going_on(path: Path, callback: Started) -> Iterator[None]:
    """What fails before the first step of a fit that goes on from a file is the file's fault.

    Raises:
        DamagedState: Lightning or torch could not restore the state; nothing of it was executed (`weights_only`).
    """
    try:
        check_regular(path, "the fit begins anew", MOST_ARRAYS)
    except UserError as error:
        raise DamagedState(str(error)) from error
    try:
        yield
    except (UserError, Interrupted, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if callback.started:
            raise
        raise DamagedState(f"{path} is no state of this fit ({type(error).__name__}: {_line(error)})") from error


def again_from_the_start(folder: Path, attempt: Callable[[], T], anew: Callable[[], T]) -> tuple[T, str]:
    """Go on with a fit; where its state cannot be used, set the state aside and begin anew.

    Args:
        folder: of the state.
        attempt: goes on from the state.
        anew: begins without one.

    Returns:
        What the fit returned, and a note for the row ("" when nothing was set aside).
    """
    try:
        return attempt(), ""
    except DamagedState as error:
        note = f"began anew: {error}; it is kept in {set_aside(folder).name}"
    return anew(), note


def _check_memory(parameter: torch.Tensor, memory: dict[str, Any]) -> None:
    for name, value in memory.items():
        if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
            raise ValueError(f"{name} has the shape {list(value.shape)}, its parameter {list(parameter.shape)}")


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
