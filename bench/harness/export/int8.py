"""A network's file rounded to 8 bits: static, a scale for each channel of a weight, ranges from training images.

MobileNetV2's depthwise convolutions lose most: their channels differ in range by orders of magnitude. So the ways of
finding the ranges are tried on images that are neither trained for this nor tested on, and the nearest one is taken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.atomic import write_bytes
from bench.harness.export.network_file import answers, with_metadata
from models.inference.graphs import INPUT

WAYS = ("minmax", "percentile", "entropy")
SMALL = 100_000
"""Products whose weights hold fewer numbers stay in 32 bits: a head's last layers, which cost nothing and decide."""


@dataclass(frozen=True)
class Rounded:
    """A file in 8 bits.

    Attributes:
        way: how the ranges of its activations were found.
        distances: mean distance of its probabilities from those in 32 bits on the images that chose, by way.
    """

    path: Path
    way: str
    distances: dict[str, float]


def write_int8(
    plain: Path, path: Path, calibration: NDArray[np.float32], choosing: NDArray[np.float32], about: dict[str, str]
) -> Rounded:
    """Write a file's network in 8 bits.

    Args:
        plain: the file in 32 bits; path: the one to write.
        calibration: normalized training images [N, 3, H, W], from which ranges are taken.
        choosing: normalized images [M, 3, H, W] by which one of `WAYS` is chosen.
        about: what the metadata says beyond that of the file in 32 bits.
    """
    expected = answers(plain, choosing)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        ready = _prepared(plain, Path(folder))
        found = {way: _quantized(ready, Path(folder) / f"{way}.onnx", calibration, way) for way in WAYS}
        distances = {way: float(np.abs(answers(file, choosing) - expected).mean()) for way, file in found.items()}
        way = min(distances, key=lambda name: distances[name])
        words = f"static, weights per channel (QDQ, U8S8), ranges by {way} of {len(calibration)} images"
        write_bytes(path, with_metadata(found[way].read_bytes(), {**about, "int8": words}))
    return Rounded(path, way, distances)


def _prepared(plain: Path, folder: Path) -> Path:
    """With shapes inferred and constants folded, as quantization wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = folder / "ready.onnx"
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    return ready


def _quantized(ready: Path, path: Path, calibration: NDArray[np.float32], way: str) -> Path:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    quantize_static(
        str(ready),
        str(path),
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Add", "Gemm", "MatMul"],
        nodes_to_exclude=_small_products(ready),
        calibrate_method=methods[way],
    )
    return path


def _small_products(path: Path) -> list[str]:
    import onnx

    graph = onnx.load(path).graph
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    return [node.name for node in products if max(sizes.get(name, 0) for name in node.input) < SMALL]


class _Reader:
    """Hands out images in small batches, as the calibrators ask for them."""

    def __init__(self, images: NDArray[np.float32], batch: int = 8) -> None:
        self._batches: Iterator[Any] = iter(images[start : start + batch] for start in range(0, len(images), batch))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice on the terminal."""
    import contextlib
    import io
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
