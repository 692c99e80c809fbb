"""A predictor's network as an ONNX file with all that its user needs in the metadata, checked against PyTorch."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bench
from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from models.evaluate import BATCH
from models.inference.engines import ONNX_PACKAGES, folded, needs_onnx
from models.inference.graphs import INPUT, graph, session
from models.predictor import Card, NetworkPredictor, Predictor

AGREEMENT = 1e-4
"""By how much a probability may differ from PyTorch's in 32 bits."""


class Answering(nn.Module):
    """A whole network as it answers: normalized images [N, 3, H, W] -> probabilities [N, k], BatchNorm folded.

    Where a head was fitted on stored maps, the map is rounded to half precision here too.
    """

    def __init__(self, predictor: NetworkPredictor) -> None:
        super().__init__()
        self.backbone = folded(predictor.network.backbone)
        self.head = predictor.network.head
        self.stored = predictor.card.stored

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities."""
        maps = self.backbone(images)
        if self.stored != "images":
            maps = maps.to(torch.float16).to(torch.float32)
        if self.stored == "means":
            maps = maps.mean((2, 3), keepdim=True)
        logits: Tensor = self.head(maps)
        return logits.softmax(1)


@dataclass(frozen=True)
class Written:
    """An ONNX file.

    Attributes:
        agreement: the largest difference of a probability from PyTorch's, over the images that it was checked on.
    """

    path: Path
    agreement: float
    checked: int

    @property
    def size_mb(self) -> float:
        """On disk, in units of 1e6 bytes."""
        return self.path.stat().st_size / 1e6


def require_onnx(what: str) -> None:
    """Raises UserError, with the command that brings them, where the packages of the extra `onnx` are not there."""
    if missing := [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(needs_onnx(what, missing))


def write_network(predictor: Predictor, path: Path, about: dict[str, str], images: NDArray[np.uint8]) -> Written:
    """Write a predictor's network, in 32 bits and for any number of images, and hold it against PyTorch.

    Args:
        predictor: a whole network's.
        path: the ONNX file to write.
        about: what its metadata says beyond the card: the cell's key, say.
        images: uint8 [N, H, W, 3] at the card's size, on which both answer.

    Raises:
        UserError: the packages are missing, the predictor is no network, or its probabilities differ by more than 1e-4.
    """
    require_onnx("an ONNX file")
    if not isinstance(predictor, NetworkPredictor):
        raise UserError(f"{predictor.card.model}: only networks become ONNX, and this predictor is a {predictor.kind}")
    size, network = predictor.card.image_size, Answering(predictor).cpu()
    plain = graph(network, (2, 3, size, size), dynamic=True)
    write_bytes(path, with_metadata(plain, {**metadata(predictor.card), **about}))
    agreement = float(np.abs(answers(path, normalized(images, predictor)) - of_torch(network, images, predictor)).max())
    if not agreement <= AGREEMENT:
        path.unlink()
        raise UserError(f"{path}: its probabilities differ from PyTorch's by {agreement:.2g}, more than {AGREEMENT:g}")
    return Written(path, agreement, len(images))


def metadata(card: Card) -> dict[str, str]:
    """What a program needs to know beside the graph, as JSON texts: classes and preprocessing."""
    preprocessing = {
        "size": card.image_size,
        "colours": "RGB",
        "resize": "bilinear with antialiasing, to the square, aspect ratio not kept",
        "scale": "1/255",
        "mean": list(card.normalization.mean),
        "std": list(card.normalization.std),
        "layout": "NCHW",
    }
    return {
        "classes": json.dumps(list(card.classes)),
        "preprocessing": json.dumps(preprocessing),
        "model": card.model,
        "made_by": f"deepmedix-bench {bench.__version__}, torch {torch.__version__}",
    }


def with_metadata(model: bytes, values: dict[str, str]) -> bytes:
    """A serialized graph with values added to its metadata."""
    import onnx

    found = onnx.load(io.BytesIO(model))
    known = {entry.key: entry.value for entry in found.metadata_props}
    onnx.helper.set_model_props(found, {**known, **values})
    text: bytes = found.SerializeToString()
    return text


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file. Raises UserError where it cannot be read as ONNX."""
    try:
        values: dict[str, str] = session(path, 1).get_modelmeta().custom_metadata_map
    except Exception as error:
        raise UserError(f"{path} is no ONNX file that can be run ({str(error).splitlines()[0]})") from error
    return values


def normalized(images: NDArray[np.uint8], predictor: Predictor) -> NDArray[np.float32]:
    """What the network is given for uint8 images: float32 [N, 3, H, W]."""
    prepared: NDArray[np.float32] = predictor.prepare(np.asarray(images)).cpu().contiguous().numpy()
    return prepared


def answers(path: Path, inputs: NDArray[np.float32], threads: int = 0) -> NDArray[np.float32]:
    """A file's probabilities [N, k] of normalized images, by ONNX Runtime.

    Args:
        path: the ONNX file.
        inputs: normalized images [N, 3, H, W].
        threads: 0: as many as torch has.
    """
    run: Any = session(path, threads or torch.get_num_threads())
    rows = [run.run(None, {INPUT: inputs[start : start + BATCH]})[0] for start in range(0, len(inputs), BATCH)]
    return np.concatenate(rows)


@torch.inference_mode()
def of_torch(network: nn.Module, images: NDArray[np.uint8], predictor: Predictor) -> NDArray[np.float32]:
    """PyTorch's probabilities [N, k] in 32 bits, whatever engine and precision the cell was answered with.

    Args:
        network: normalized images to probabilities.
        images: uint8 [N, H, W, 3].
        predictor: whose normalization is used.
    """
    found: NDArray[np.float32] = network(torch.from_numpy(normalized(images, predictor))).numpy()
    return found
