"""Fit, predict and measure one cell, and write its files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bench.core.atomic import write_json
from bench.core.cellspec import CellSpec
from bench.core.config import Protocol, Runtime
from bench.core.errors import UserError
from bench.core.identity import derive_seed, digest
from bench.core.regimes import REGIMES
from bench.data.auditstore import audit_verdict
from bench.data.cache import images as cached_images
from bench.data.loader import Part, part
from bench.data.split import Split, split
from bench.data.table import Table
from bench.measure import quality
from bench.measure.cost import cost
from bench.measure.extra import extra_intervals, extra_quality
from bench.measure.timing import timings
from bench.plan import PlannedCell
from bench.store import CELL, FAILURE, HISTORY, PREDICTIONS, RESULT, SCHEMA, now, write_table
from models.batches import EvalBatches, Preparation
from models.calibrate import NOTE as calibration_note
from models.calibrate import calibrate
from models.callbacks import LAST, OnEvent
from models.classifier import make_optimizer
from models.features import feature_maps, pooled
from models.network import Network
from models.registry import ModelSpec
from models.training import FitContext, FitData, FitOutcome, probabilities
from models.weights import load, normalization

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class CellJob:
    """One cell with everything that it needs to run.

    Attributes:
        folder: the cell's folder in the run.
        micro_batches: in how many pieces a batch is computed.
    """

    planned: PlannedCell
    table: Table
    folder: Path
    runtime: Runtime
    on_event: OnEvent = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    micro_batches: int = 1

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


def run_cell(job: CellJob) -> None:
    """Fit the cell and write its files; `result.json` comes last.

    Raises:
        Interrupted: when asked to stop; the next start goes on from the last epoch.
    """
    started, clock = now(), time.perf_counter()
    write_json(job.folder / CELL, {"key": job.planned.key, **job.spec.as_dict()})
    device = pick_device(job.runtime)
    network = initial_network(job.planned, len(job.table.classes), device)
    data = cell_data(job, network, preparation(job, device))
    outcome, fitted = fit_with_less_memory(job, context_of(job, network, data, device))
    job.on_event({"event": "measuring"})
    predicted = probabilities(fitted.module, EvalBatches(data.test, fitted.prepare))
    write_outputs(job, outcome, data.test, predicted)
    result = {
        "schema": SCHEMA,
        "key": job.planned.key,
        "cell": job.spec.as_dict(),
        **measure_quality(job, data, predicted, outcome),
        **measure_cost(job, device),
        "data": describe_data(job, data),
        "notes": [note for note in (*data.notes, job.planned.size_note, *outcome.notes) if note],
        "started": started,
        "seconds": time.perf_counter() - clock,
    }
    write_json(job.folder / RESULT, result)
    (job.folder / FAILURE).unlink(missing_ok=True)
    (job.folder / LAST).unlink(missing_ok=True)


def pick_device(runtime: Runtime) -> torch.device:
    """The device of a runtime. Raises UserError when it is not there."""
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(runtime.device)
    except RuntimeError as error:
        raise UserError(f"--device takes auto, cpu, cuda or cuda:N, not {runtime.device!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {runtime.device}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def check_runtime(protocol: Protocol, runtime: Runtime) -> None:
    """Refuse a device that is not there, and 16-bit training where it cannot pay.

    Raises:
        UserError: in one sentence.
    """
    device = pick_device(runtime)
    if device.type == "cpu" and protocol.precision != "32":
        raise UserError(
            f"precision = {protocol.precision} runs on GPUs only (on a CPU it is more than ten times slower); "
            "use --set precision=32"
        )


def initial_network(planned: PlannedCell, num_classes: int, device: torch.device) -> Network:
    """The network before the fit: built from the cell's seed, initial weights loaded, on its device."""
    torch.manual_seed(derive_seed(planned.spec.fit_seed, "init"))
    network = planned.model.build(num_classes)
    load(network, planned.weights)
    return placed(network, planned.spec.protocol, device)


def placed(network: Network, protocol: Protocol, device: torch.device) -> Network:
    """The network on its device and in the protocol's memory format, the backbone frozen if only the head is tuned."""
    if protocol.tuning == "head":
        network.freeze_backbone()
    network.to(device)
    if protocol.channels_last:
        network.to(memory_format=torch.channels_last)
    return network


def preparation(job: CellJob, device: torch.device) -> Preparation:
    """How the cell's images become tensors."""
    protocol = job.protocol
    kind = job.table.kind if protocol.augmentation == "auto" else None
    normalize = normalization(protocol.normalization, job.planned.weights)
    return Preparation(normalize, kind, device, protocol.channels_last)


def context_of(job: CellJob, network: Network, data: CellData, device: torch.device) -> FitContext:
    """What the regime's fit is handed."""
    return FitContext(
        network=network,
        num_classes=len(job.table.classes),
        protocol=job.protocol,
        regime=job.spec.regime,
        data=data.fit,
        prepare=preparation(job, device),
        data_seed=job.spec.data_seed,
        fit_seed=job.spec.fit_seed,
        folder=job.folder,
        device=device,
        on_event=job.on_event,
        should_stop=job.should_stop,
        micro_batches=job.micro_batches,
    )


def cell_data(job: CellJob, network: Network, prepare: Preparation) -> CellData:
    """Split, decoded images and, for a frozen backbone, its feature maps."""
    parts = split(job.table, job.spec.split, job.spec.data_seed)
    job.on_event({"event": "images", "total": len(job.table)})
    inputs: NDArray[Any] = cached_images(job.table, job.planned.image_size)
    notes = []
    if job.protocol.tuning == "head":
        if not job.planned.weights.pretrained:
            calibrate(network.backbone, EvalBatches(calibration_part(job, inputs, parts), prepare))
            notes.append(calibration_note)
        inputs = head_inputs(job, network, inputs, prepare)
        notes.append("head trained on stored feature maps of the frozen backbone, without augmentation")
    train, val, test = (part(job.table, inputs, rows) for rows in (parts.train, parts.val, parts.test))
    if job.spec.split == "image":
        # This split takes an image for a patient; federated clients are dealt the same units.
        train, val = (replace(one, groups=one.ids) for one in (train, val))
    return CellData(FitData(train, val), test, parts, notes)


def calibration_part(job: CellJob, images: NDArray[np.uint8], parts: Split) -> Part:
    """The training images that a random backbone's statistics are taken from."""
    rows = parts.train
    chosen = np.random.default_rng(derive_seed(job.spec.data_seed, "calibrate")).permutation(len(rows))
    return part(job.table, images, rows[np.sort(chosen[:CALIBRATION_IMAGES])])


def head_inputs(job: CellJob, network: Network, images: NDArray[np.uint8], prepare: Preparation) -> NDArray[Any]:
    """The frozen backbone's maps, or their means where the head pools before anything random."""
    planned = job.planned
    initial = planned.weights.identity if planned.weights.pretrained else f"seed {job.spec.fit_seed}"
    identity = {
        "backbone": planned.model.backbone,
        "weights": initial,
        "dataset": job.table.fingerprint(),
        "size": planned.image_size,
        "normalization": job.protocol.normalization,
        "channels_last": job.protocol.channels_last,
    }
    maps = feature_maps(network.backbone, images, prepare, identity, job.on_event, job.should_stop)
    return pooled(maps) if planned.model.head.averages_first else maps


def fit_with_less_memory(job: CellJob, context: FitContext) -> tuple[FitOutcome, FitContext]:
    """Fit; after running out of memory, once more with half the micro-batch and accumulated gradients."""
    fit = REGIMES.get(job.spec.regime).load()
    try:
        return fit(context), context
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        problem = str(error).splitlines()[0]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    (job.folder / LAST).unlink(missing_ok=True)
    network = initial_network(job.planned, context.num_classes, context.device)
    smaller = replace(context, network=network, micro_batches=2 * context.micro_batches)
    outcome = fit(smaller)
    note = f"out of memory at batch {context.protocol.batch_size} ({problem}): fitted in two halves of a batch"
    return replace(outcome, notes=[*outcome.notes, note]), smaller


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def write_outputs(job: CellJob, outcome: FitOutcome, test: Part, predicted: NDArray[np.float32]) -> None:
    """Write the history and the predictions on the test part."""
    write_table(job.folder / HISTORY, pa.Table.from_pylist(outcome.history))
    columns: dict[str, Any] = {"image_id": test.ids, "group": test.groups, "site": test.sites, "label": test.labels}
    columns |= {f"p_{name}": predicted[:, index] for index, name in enumerate(job.table.classes)}
    write_table(job.folder / PREDICTIONS, pa.table({name: pa.array(values) for name, values in columns.items()}))


def measure_quality(
    job: CellJob, data: CellData, predicted: NDArray[np.float32], outcome: FitOutcome
) -> dict[str, dict[str, Any]]:
    """The quality of the predictions with its intervals, and the fit's own columns."""
    labels, groups, classes = data.test.labels, data.test.groups, job.table.classes
    seed = derive_seed("bootstrap", job.spec.dataset, job.spec.split, job.spec.seed)
    resamples = job.protocol.bootstrap_resamples
    intervals = quality.intervals(labels, predicted, groups, classes, resamples, seed)
    intervals |= extra_intervals(labels, predicted, groups, resamples, seed)
    found = quality.quality(labels, predicted, classes) | extra_quality(labels, predicted)
    metrics = {name: json_number(value) for name, value in {**found, **outcome.columns}.items()}
    seconds = [row["seconds"] for row in outcome.history if row.get("seconds")]
    if seconds:
        metrics["train_images_per_s"] = len(data.fit.train) / float(np.median(seconds))
    bounds = {name: [json_number(low), json_number(high)] for name, (low, high) in intervals.items()}
    return {"metrics": metrics, "intervals": bounds}


def measure_cost(job: CellJob, device: torch.device) -> dict[str, dict[str, Any]]:
    """Operations of the network and times of a batch; both are taken once a process for equal networks."""
    planned = job.planned
    asked = (planned.model, len(job.table.classes), planned.image_size)
    job.on_event({"event": "timing"})
    return {"cost": dict(model_cost(*asked)), "timing": dict(model_timing(*asked, job.protocol, device))}


@lru_cache(maxsize=256)
def model_cost(model: ModelSpec, num_classes: int, image_size: int) -> dict[str, Any]:
    """Parameters and operations of a model, in millions, and what was not counted."""
    found = cost(model.build(num_classes), image_size)
    sums = {name: getattr(found, name) for name in ("params_m", "macs_m", "flops_m", "activations_m")}
    return {**sums, "uncounted": dict(found.uncounted), "image_size": image_size}


@lru_cache(maxsize=256)
def model_timing(
    model: ModelSpec, num_classes: int, image_size: int, protocol: Protocol, device: torch.device
) -> dict[str, Any]:
    """Times of a batch by the protocol's settings; a frozen backbone is timed as frozen, images in."""
    network = placed(model.build(num_classes), protocol, device)
    batch = torch.randn(protocol.timing_batch_size, 3, image_size, image_size, device=device)
    if protocol.channels_last:
        batch = batch.to(memory_format=torch.channels_last)
    return timings(
        network,
        batch,
        num_classes,
        batches=protocol.timing_batches,
        warmup=protocol.timing_warmup,
        precision=protocol.precision,
        optimizer=lambda parameters: make_optimizer(parameters, protocol),
    )


def describe_data(job: CellJob, data: CellData) -> dict[str, Any]:
    """What a reader must know of the images behind the figures."""
    table = job.table
    return {
        "classes": list(table.classes),
        "images": len(table),
        "expected": table.expected,
        "n_train": len(data.fit.train),
        "n_val": len(data.fit.val),
        "n_test": len(data.test),
        "groups_test": len(np.unique(data.test.groups)),
        "synthetic": table.synthetic,
        "fingerprint": table.fingerprint(),
        "test_fingerprint": digest(sorted(data.test.ids.tolist())),
        "paper_name": table.paper_name,
        "audit": audit_verdict(table, data.split),
        "notes": list(table.notes),
    }


def json_number(value: float) -> float | None:
    """A finite number, or None: JSON has no NaN, and a figure that is not defined is not zero."""
    return float(value) if np.isfinite(value) else None
