"""What a cell is fitted and tested on: the split, decoded images, and a frozen backbone's feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.cellspec import CellSpec
from bench.core.config import Protocol, Runtime
from bench.core.identity import derive_seed
from bench.data.cache import images as cached_images
from bench.data.loader import Part, part
from bench.data.split import Split, split
from bench.data.table import Table
from bench.plan import PlannedCell
from models.batches import EVALUATION_BATCH, EvalBatches, Preparation
from models.calibrate import NOTE as CALIBRATED
from models.calibrate import calibrate
from models.callbacks import OnEvent
from models.features import feature_maps, pooled
from models.network import Network
from models.training import FitData
from models.weights import normalization

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class CellJob:
    """One cell with everything that it needs to run.

    Attributes:
        folder: the cell's folder in the run.
        micro_batches: in how many pieces a batch is computed.
        beside: how many cells may be running on this machine.
    """

    planned: PlannedCell
    table: Table
    folder: Path
    runtime: Runtime
    on_event: OnEvent = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    micro_batches: int = 1
    beside: int = 1

    @property
    def spec(self) -> CellSpec:
        """What the cell is."""
        return self.planned.spec

    @property
    def protocol(self) -> Protocol:
        """Its recipe."""
        return self.planned.spec.protocol


@dataclass(frozen=True)
class CellData:
    """A cell's inputs: the parts for the fit, and the test part that only the prediction sees."""

    fit: FitData
    test: Part
    split: Split
    notes: list[str]


def preparation(job: CellJob, device: torch.device) -> Preparation:
    """How the cell's images become tensors."""
    protocol = job.protocol
    kind = job.table.kind if protocol.augmentation == "auto" else None
    normalize = normalization(protocol.normalization, job.planned.weights)
    return Preparation(normalize, kind, device, protocol.channels_last)


def cell_data(job: CellJob, network: Network, prepare: Preparation) -> CellData:
    """Split, decoded images and, for a frozen backbone, its feature maps."""
    stock = take_stock(job, network, prepare)
    test = part(job.table, stock.inputs, stock.split.test)
    return CellData(fitting_parts(job, stock), test, stock.split, stock.notes)


def fitting_data(job: CellJob, network: Network, prepare: Preparation) -> FitData:
    """The training and the validation part alone: what a cell is handed that must not know the test part."""
    return fitting_parts(job, take_stock(job, network, prepare))


@dataclass(frozen=True)
class Stock:
    """A table's inputs [N, ...] before they are divided: images, or a frozen backbone's maps.

    Attributes:
        views: maps of augmented copies of the images, which training alone sees.
    """

    split: Split
    inputs: NDArray[Any]
    views: tuple[NDArray[Any], ...]
    notes: list[str]


def take_stock(job: CellJob, network: Network, prepare: Preparation) -> Stock:
    """Divide the table, decode its images, and send them through a frozen backbone."""
    parts = split(job.table, job.spec.split, job.spec.data_seed)
    job.on_event({"event": "images", "total": len(job.table)})
    images: NDArray[Any] = cached_images(job.table, job.planned.image_size)
    if job.protocol.tuning == "full":
        return Stock(parts, images, (), [])
    notes = []
    if not job.planned.weights.pretrained:
        calibrate(network.backbone, EvalBatches(calibration_part(job, images, parts), prepare))
        notes.append(CALIBRATED)
    count = job.protocol.feature_views if prepare.kind else 1
    inputs, *views = (head_inputs(job, network, images, prepare, view) for view in range(count))
    copies = f"of each image and {count - 1} augmented copies" if views else "of each image, without augmentation"
    notes.append(f"head trained on the frozen backbone's stored maps {copies}")
    return Stock(parts, inputs, tuple(views), notes)


def fitting_parts(job: CellJob, stock: Stock) -> FitData:
    """The parts that a fit may see."""
    train = part(job.table, stock.inputs, stock.split.train, stock.views)
    # Validation itself never sees the views; they are there for a refit, which learns from these images too.
    val = part(job.table, stock.inputs, stock.split.val, stock.views)
    return FitData(train, val)


def calibration_part(job: CellJob, images: NDArray[np.uint8], parts: Split) -> Part:
    """The training images that a random backbone's statistics are taken from."""
    rows = parts.train
    chosen = np.random.default_rng(derive_seed(job.spec.data_seed, "calibrate")).permutation(len(rows))
    count = min(len(chosen), CALIBRATION_IMAGES)
    # BatchNorm has no variance of one image alone, where the map is a single pixel.
    count -= count % EVALUATION_BATCH == 1 and count > 1
    return part(job.table, images, rows[np.sort(chosen[:count])])


def head_inputs(
    job: CellJob, network: Network, images: NDArray[np.uint8], prepare: Preparation, view: int
) -> NDArray[Any]:
    """The frozen backbone's maps, or their means where the head pools before anything random.

    View 0 is of the images as they are, the others are of copies that were augmented by seeds of their own.
    """
    planned = job.planned
    initial = planned.weights.identity if planned.weights.pretrained else f"seed {job.spec.fit_seed}"
    identity = {
        "backbone": planned.model.backbone,
        "weights": initial,
        "dataset": job.table.fingerprint(),
        "size": planned.image_size,
        "normalization": job.protocol.normalization,
        "channels_last": job.protocol.channels_last,
        "view": view,
        "kind": prepare.kind if view else None,
    }
    maps = feature_maps(network.backbone, images, prepare, identity, job.on_event, job.should_stop, view)
    return pooled(maps) if planned.model.head.averages_first else maps
