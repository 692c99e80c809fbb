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
from bench.core.identity import derive_seed, digest
from bench.data.images.augment import Augmentation
from bench.data.images.cache import images as cached_images
from bench.data.loader import Part, part
from bench.data.splits import Split, split
from bench.data.table import Table
from bench.harness.plan import PlannedCell, Setup
from models.calibrate import NOTE as CALIBRATED
from models.calibrate import calibrate
from models.features import feature_maps
from models.inference.engines import Computing
from models.network import Network
from models.recipes.batches import EVALUATION_BATCH, EvalBatches, Preparation
from models.recipes.callbacks import OnEvent
from models.recipes.context import FitData
from models.weights.initial import normalization

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class CellJob:
    """One cell with everything that it needs to run.

    Attributes:
        folder: the cell's folder in the run.
        micro_batches: in how many pieces a batch is computed.
        beside: how many cells may be running on this machine.
        times: where the run keeps batch times; None: in this process alone.
        timed_with: what else of the run may be timed in turns with this cell's network, with its number of classes.
    """

    planned: PlannedCell
    table: Table
    folder: Path
    runtime: Runtime
    on_event: OnEvent = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    micro_batches: int = 1
    beside: int = 1
    times: Path | None = None
    timed_with: tuple[tuple[PlannedCell, int], ...] = ()

    @property
    def spec(self) -> CellSpec:
        """What the cell is."""
        return self.planned.spec

    @property
    def protocol(self) -> Protocol:
        """Its recipe."""
        return self.planned.spec.protocol

    @property
    def source(self) -> Source:
        """What its inputs are made from."""
        return Source(self.planned, self.table, self.on_event, self.should_stop)


@dataclass(frozen=True)
class Source:
    """A table of images and the set-up that asks for them: all that inputs depend on, in a run and at a site alike."""

    setup: Setup
    table: Table
    on_event: OnEvent = lambda event: None
    should_stop: Callable[[], bool] = lambda: False

    @property
    def protocol(self) -> Protocol:
        """The training settings."""
        return self.setup.protocol


@dataclass(frozen=True)
class CellData:
    """A cell's inputs: the parts for the fit, and the test set that only the prediction sees."""

    fit: FitData
    test: Part
    split: Split
    notes: list[str]


def preparation(source: Source, device: torch.device) -> Preparation:
    """How images become tensors."""
    protocol = source.protocol
    own = source.setup.model.augmentation or source.table.kind
    kind: Augmentation | None = own if protocol.augmentation == "auto" else None
    if protocol.augmentation == "thirtyfold":
        kind = "thirtyfold"
    normalize = normalization(protocol.normalization, source.setup.weights)
    return Preparation(normalize, kind, device, protocol.channels_last)


def cell_data(source: Source, network: Network, prepare: Preparation) -> CellData:
    """Split, decoded images and, for a frozen backbone, its feature maps."""
    divided = divide_inputs(source, network, prepare)
    test = part(source.table, divided.inputs, divided.split.test, divided.views)
    return CellData(fitting_parts(source, divided), test, divided.split, divided.notes)


def fitting_data(source: Source, network: Network, prepare: Preparation) -> FitData:
    """The training and the validation part alone: what a cell is handed that must not know the test set."""
    return fitting_parts(source, divide_inputs(source, network, prepare))


@dataclass(frozen=True)
class DividedInputs:
    """A table's inputs [N, ...] before they are divided: images, or a frozen backbone's maps.

    Attributes:
        views: maps of augmented copies of the images, which training alone sees.
    """

    split: Split
    inputs: NDArray[Any]
    views: tuple[NDArray[Any], ...]
    notes: list[str]


def divide_inputs(source: Source, network: Network, prepare: Preparation) -> DividedInputs:
    """Divide the table, decode its images, and send them through a frozen backbone.

    The BatchNorm statistics of a random, frozen backbone are estimated first and stay in the network, unless the set-up
    brought some: then `initial_network` has put them there.
    """
    parts, images = divided_images(source)
    if source.protocol.tuning == "full":
        return DividedInputs(parts, images, (), [])
    notes = []
    if source.setup.random_backbone:
        if not source.setup.statistics:
            estimate_statistics(source, network, prepare, parts, images)
        notes.append(CALIBRATED)
    count = source.protocol.feature_views if prepare.kind else 1
    inputs, *views = (head_inputs(source, network, images, prepare, view) for view in range(count))
    copies = f"of each image and {count - 1} augmented copies" if views else "of each image, without augmentation"
    notes.append(f"head trained on the frozen backbone's stored maps {copies}")
    return DividedInputs(parts, inputs, tuple(views), notes)


def divided_images(source: Source) -> tuple[Split, NDArray[Any]]:
    """The split of a source's table, and all of its images decoded at the backbone's size."""
    spec = source.setup.spec
    parts = split(source.table, spec.split, spec.data_seed)
    source.on_event({"event": "images", "total": len(source.table)})
    return parts, cached_images(source.table, source.setup.image_size)


def fitting_parts(source: Source, divided: DividedInputs) -> FitData:
    """The parts that a fit may see."""
    train = part(source.table, divided.inputs, divided.split.train, divided.views)
    # Validation itself never sees the views; they are there for a refit, which learns from these images too.
    val = part(source.table, divided.inputs, divided.split.val, divided.views)
    return FitData(train, val)


def estimate_statistics(
    source: Source, network: Network, prepare: Preparation, parts: Split, images: NDArray[Any]
) -> None:
    """Set the BatchNorm statistics of a random backbone to those of some training images.

    Args:
        parts, images: what `divided_images` gave.
    """
    calibrate(network.backbone, EvalBatches(calibration_part(source, images, parts), prepare))


def calibration_part(source: Source, images: NDArray[np.uint8], parts: Split) -> Part:
    """The training images that a random backbone's statistics are taken from."""
    rows, seed = parts.train, source.setup.spec.data_seed
    chosen = np.random.default_rng(derive_seed(seed, "calibrate")).permutation(len(rows))
    count = min(len(chosen), CALIBRATION_IMAGES)
    # BatchNorm has no variance of one image alone, where the map is a single pixel.
    count -= count % EVALUATION_BATCH == 1 and count > 1
    return part(source.table, images, rows[np.sort(chosen[:count])])


def head_inputs(
    source: Source, network: Network, images: NDArray[np.uint8], prepare: Preparation, view: int
) -> NDArray[Any]:
    """The frozen backbone's maps, or their means where the head pools before anything random.

    View 0 is of the images as they are, the others are of copies that were augmented by seeds of their own.

    Args:
        source: of the images: what they are and which part.
        network: its backbone is frozen.
        images: uint8 [N, H, W, 3].
        prepare: how they are made tensors.
        view: 0, or the number of an augmented copy.
    """
    setup = source.setup
    identity = {
        "backbone": setup.model.backbone,
        "weights": _backbone_identity(setup),
        "dataset": source.table.fingerprint(),
        "size": setup.image_size,
        "normalization": source.protocol.normalization,
        "channels_last": source.protocol.channels_last,
        "view": view,
        "kind": prepare.kind if view else None,
    }
    means, how = setup.model.head.averages_first, Computing.of(source.protocol)
    told = source.on_event, source.should_stop
    return feature_maps(network.backbone, images, prepare, identity, *told, view, how, means)


def _backbone_identity(setup: Setup) -> str:
    """What a frozen backbone's numbers depend on; statistics of the table's own images follow from seed and table."""
    if setup.weights.pretrained:
        return setup.weights.identity
    seed = f"seed {setup.spec.fit_seed}"
    return f"{seed}, statistics {digest(setup.statistics.hex())}" if setup.statistics else seed
