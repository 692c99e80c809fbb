"""`bench export` and `bench profile --onnx`: what is written, what it measures, and what a claim would need."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.harness.export.int8 import write_int8
from bench.harness.export.network_file import (
    Written,
    answers,
    normalized,
    read_metadata,
    require_onnx,
    write_network,
)
from bench.harness.finished import FinishedCell
from bench.measure.rounds import OtherProcesses
from bench.measure.statistics.paired import accuracy_difference, right
from bench.measure.timing import processor
from models.backbones.registry import BACKBONES, effective_size
from models.network import IMAGENET
from models.predictor import Card, NetworkPredictor, Predictor
from models.recipes.batches import Preparation
from models.registry import MODELS

CALIBRATION_IMAGES = 128
CHECKED_IMAGES = 64
NOISE = "calibrated on noise, since a model alone has no images: good for size and latency, not for its answers"


@dataclass(frozen=True)
class Material:
    """What is exported, and the images that it needs for that, uint8 [N, H, W, 3].

    Attributes:
        calibration: of the training part; choosing: of the validation part.
        cell: None for a model that was not trained.
    """

    predictor: Predictor
    about: dict[str, str]
    calibration: NDArray[np.uint8]
    choosing: NDArray[np.uint8]
    cell: FinishedCell | None = None


def of_cell(cell: FinishedCell) -> Material:
    """A finished cell's network; its dataset is read again."""
    drawn = [_some(cell.images(part), count, cell.key) for part, count in _PARTS.items()]
    about = {"cell": cell.key, "cell_name": cell.spec.name}
    return Material(cell.predictor, about, drawn[0], drawn[1], cell)


_PARTS: dict[Any, int] = {"train": CALIBRATION_IMAGES, "val": CHECKED_IMAGES}


def _some(images: NDArray[np.uint8], count: int, key: str) -> NDArray[np.uint8]:
    rows = np.random.default_rng(derive_seed("calibrate", key)).permutation(len(images))[:count]
    return np.asarray(images[np.sort(rows)])


def of_model(name: str, classes: int, protocol: Protocol) -> Material:
    """A registered model with random weights, and noise to look at.

    Args:
        name: the model's.
        classes: how many.
        protocol: whose image size is used.
    """
    spec = MODELS.get(name)
    size, _ = effective_size(BACKBONES.get(spec.backbone), protocol.image_size)
    torch.manual_seed(0)
    network = spec.build(classes).requires_grad_(False).eval()
    cpu = torch.device("cpu")
    names = tuple(f"class {number}" for number in range(classes))
    card = Card.of(spec, names, size, Preparation(IMAGENET, None, cpu, True), Protocol())
    noise = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
    return Material(NetworkPredictor(card, network, cpu), {"cell": "none: random weights"}, noise, noise[:8])


def export(material: Material, out: Path, int8: bool) -> dict[str, Any]:
    """Write the file and return its row.

    Args:
        material: what is exported, and the images that it is checked on.
        out: the file.
        int8: whether in 8 bits.

    Raises:
        UserError: as `write_network`.
    """
    require_onnx("bench export")
    if not int8:
        written = write_network(material.predictor, out, material.about, material.choosing)
        return {**_row(written), "claims": claims(None)}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        written = write_network(material.predictor, plain, material.about, material.choosing)
        calibration = normalized(material.calibration, material.predictor)
        choosing = normalized(material.choosing, material.predictor)
        rounded = write_int8(plain, out, calibration, choosing, material.about)
        row = {**_row(Written(out, written.agreement, written.checked)), "precision": "int8", "ranges_by": rounded.way}
        row |= {"distance_by_way": rounded.distances, "fp32_size_mb": written.size_mb}
        row["of_fp32_size"] = row["size_mb"] / written.size_mb
        loss = _loss(material, plain, out)
    return {**row, **loss, "claims": claims(loss)}


def _row(written: Written) -> dict[str, Any]:
    return {"file": str(written.path), "precision": "32", "size_mb": written.size_mb,
            "differs_from_pytorch": written.agreement, "checked_images": written.checked}  # fmt: skip


def _loss(material: Material, plain: Path, rounded: Path) -> dict[str, Any]:
    """What 8 bits cost on the test set, paired by image, intervals by groups."""
    cell = material.cell
    if cell is None:
        return {"note": NOISE}
    test = cell.predictions("test")
    inputs = normalized(cell.images("test"), material.predictor)
    full, less = (answers(path, inputs) for path in (plain, rounded))
    hits = [right(test.labels, found, test.classes) for found in (less, full)]
    found = accuracy_difference(hits[0], hits[1], test.groups)
    return {
        "test_images": len(test.labels),
        "accuracy_fp32": float(hits[1].mean()),
        "accuracy_int8": float(hits[0].mean()),
        "int8_minus_fp32": found.value,
        "int8_minus_fp32_low": found.low,
        "int8_minus_fp32_high": found.high,
        "p": found.p,
        "method": found.method,
        "same_class": float((full.argmax(1) == less.argmax(1)).mean()),
        "largest_difference": float(np.abs(full - less).max()),
    }


def claims(loss: dict[str, Any] | None) -> list[dict[str, str]]:
    """What "it runs on handheld devices" needs to be believed, and what of it was measured here."""
    here = f"{processor()}, which is no handheld device"
    lost = "accuracy_int8" in (loss or {})
    return [
        {"needs": "latency on a named device", "measured": f"`bench profile --onnx FILE` measures it on {here}"},
        {"needs": "accuracy against fp32", "measured": "on the test set, paired" if lost else "not measured"},
        {"needs": "size", "measured": "the file's"},
        {"needs": "memory", "measured": f"`bench profile --onnx FILE`: a process on {here}"},
        {"needs": "energy an image", "measured": "not measured: it takes a meter on the device"},
    ]


def profile_files(names: list[str], classes: int, protocol: Protocol, repeats: int) -> Iterator[dict[str, Any]]:
    """A row a file: size on disk, latencies at batch 1 by one thread and by all, memory.

    Args:
        names: files that `bench export` wrote (.onnx), or models, which are written for this with random weights.
        classes: of those models.
        protocol: whose image size they take.
        repeats: measured answers of each kind.

    Raises:
        UserError: a file that is not there or was not written by `bench export`; packages that are missing.
    """
    require_onnx("bench profile --onnx")
    for name in names:
        if name.endswith(".onnx"):
            yield _profiled(Path(name), name, repeats)
            continue
        for model in MODELS.match(name):
            with tempfile.TemporaryDirectory() as folder:
                row = export(of_model(model, classes, protocol), Path(folder) / "model.onnx", int8=False)
                yield {**_profiled(Path(row["file"]), model, repeats), "note": "random weights"}


def _profiled(path: Path, name: str, repeats: int) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"there is no {path}; `bench export CELL --onnx --out FILE` writes one")
    about = read_metadata(path)
    if "preprocessing" not in about:
        raise UserError(f"{path} does not say how images become its input; profile what `bench export` wrote")
    cores, others = psutil.cpu_count(logical=True) or 1, OtherProcesses()
    row: dict[str, Any] = {"model": name, "size_mb": path.stat().st_size / 1e6, "device": processor()}
    for label, threads in (("1_thread", 1), (f"{cores}_threads", cores)):
        found = probe(path, threads, repeats)
        for kind in ("network_ms", "with_preprocessing_ms"):
            row |= {f"{label}_{kind}_{at}": value for at, value in found[kind].items()}
        if threads == 1:
            row |= {name: found[name] for name in ("peak_memory_mb", "network_memory_mb")}
    # The measuring processes are others too, so this is the whole machine's load.
    return {**row, "repeats": repeats, "cores_in_use": round(others.share(), 3), "claims": claims(None)}


def probe(path: Path, threads: int, repeats: int) -> dict[str, Any]:
    """What a process of its own measures.

    Args:
        path: the ONNX file.
        threads: of ONNX Runtime.
        repeats: measured answers of each kind.

    Raises:
        UserError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "bench.harness.export.probe", str(path)]
    options = ["--threads", str(threads), "--repeats", str(repeats)]
    ended = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"{path} cannot be measured: {(ended.stderr.strip() or 'no reason given').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
