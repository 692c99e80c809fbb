"""Feature maps of a frozen backbone, computed once for a dataset and shared by every head, seed and variant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import nn

from bench.core.atomic import replacing, sweep_temporaries
from bench.core.errors import UserError
from bench.core.identity import derive_seed, digest
from bench.core.paths import cache
from bench.core.schema import mapped_array
from models.backbones.code import code_of, versions
from models.backbones.registry import BACKBONES
from models.evaluate import evaluated, positions
from models.inference.engines import PLAIN, Computing, evaluator
from models.recipes.batches import Preparation
from models.recipes.callbacks import Interrupted, OnEvent

VERSION = 5
_AGAIN = "delete it to compute the maps again"


def feature_maps(
    backbone: nn.Module,
    images: NDArray[np.uint8],
    prepare: Preparation,
    identity: dict[str, Any],
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    view: int = 0,
    how: Computing = PLAIN,
    means: bool = False,
) -> NDArray[Any]:
    """The backbone's maps of all images, float16 [N, C, h, w], memory-mapped from the user's cache folder.

    Dropout precedes pooling in the paper's head, so the map itself is kept, not its mean. Half precision rounds an
    activation by at most 2**-11 of its size.

    Args:
        backbone: frozen; its map is what is kept.
        images: uint8 [N, H, W, 3].
        prepare: how images are made tensors.
        identity: what the maps depend on: `backbone` (its registered name), its weights, dataset, size, normalization,
            view. Its code, the packages that decode and compute, and the kind of device are added here.
        on_event: hears how far it is.
        should_stop: asked after every batch.
        view: 0 for the images as they are; above that, each is augmented by draws that belong to the view.
        how: what computes the backbone; it is added to the identity.
        means: give the maps' spatial means, float32 [N, C, 1, 1], which are kept beside them.

    Raises:
        OverflowError: an activation is beyond half precision.
        Interrupted: when asked to stop.
    """
    path = cache() / "features" / f"{_key(backbone, prepare, {**identity, **how.identity()})}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(path.parent, lambda name: (path.parent / name).with_suffix(".lock"))

    def maps() -> NDArray[Any]:
        def compute() -> None:
            _compute(evaluator(backbone, how), images, prepare, path, on_event, should_stop, view)

        return _kept(path, len(images), np.float16, compute)

    if not means:
        return maps()
    beside = path.with_suffix(".means.npy")
    return _kept(beside, len(images), np.float32, lambda: _write(beside, pooled(maps())))


def _kept(path: Path, count: int, dtype: type[np.floating[Any]], make: Callable[[], None]) -> NDArray[Any]:
    """The array in a file, which is made where there is none that can be read: nothing is lost with it."""
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            with suppress(UserError):
                return _stored(path, count, dtype)
        make()
    return _stored(path, count, dtype)


def _stored(path: Path, count: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    maps = mapped_array(path, _AGAIN)
    if maps.dtype != dtype or maps.ndim != 4 or len(maps) != count:
        raise UserError(f"{path} holds {maps.dtype}{list(maps.shape)}, not the maps of {count} images; {_AGAIN}")
    return maps


def _write(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _key(backbone: nn.Module, prepare: Preparation, identity: dict[str, Any]) -> str:
    code = code_of(backbone, BACKBONES.get(identity["backbone"]).build)
    made_by = {"code": code, "packages": versions("torch", "torchvision", "pillow"), "device": prepare.device.type}
    return digest({"version": VERSION, **made_by, **identity}, length=24)


@torch.inference_mode()
def _compute(
    backbone: nn.Module,
    images: NDArray[np.uint8],
    prepare: Preparation,
    path: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    view: int,
) -> None:
    generator = torch.Generator().manual_seed(derive_seed("view", view)) if view else None
    # Written in order and not through a memory map: a full disk then raises an error instead of killing the process.
    with replacing(path) as temporary, temporary.open("wb") as file:
        for rows in positions(len(images)):
            if should_stop():
                raise Interrupted
            prepared = prepare(np.asarray(images[rows]), generator)
            maps = half(evaluated(backbone, prepared, prepare.channels_last))
            if rows.start == 0:
                shape = (len(images), *maps.shape[1:])
                np.lib.format.write_array_header_1_0(file, _header(shape))
            file.write(maps.tobytes())
            on_event({"event": "features", "done": rows.stop, "total": len(images)})


def half(maps: torch.Tensor) -> NDArray[np.float16]:
    """Maps in half precision, on the CPU. Raises OverflowError for an activation beyond it."""
    rounded = maps.contiguous().to(torch.float16)
    if not torch.isfinite(rounded).all():
        raise OverflowError("a feature map does not fit half precision; use tuning = full")
    return rounded.cpu().numpy()


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}


def pooled(maps: NDArray[np.float16], rows: int = 512) -> NDArray[np.float32]:
    """The spatial means float32 [N, C, 1, 1] of maps [N, C, h, w], for heads that pool before anything random."""
    means = np.empty((*maps.shape[:2], 1, 1), np.float32)
    for start in range(0, len(maps), rows):
        means[start : start + rows, :, 0, 0] = np.asarray(maps[start : start + rows], np.float32).mean((2, 3))
    return means
