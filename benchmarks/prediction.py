"""Prediction and the feature pass: this package's engines against plain eager PyTorch, in turns, in one process.

    python benchmarks/prediction.py [--quick] [--out benchmarks/results/prediction.json]

Plain is what a script does: `model.eval()`, 32 bits, contiguous images in batches of 32, BatchNorm as it is. Both sides
start from decoded uint8 images in memory and end with probabilities, or with maps in half precision. An engine's
start (export, compilation) is told by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, goal, in_turns, machine, rates, ratio
from numpy.typing import NDArray

from bench.core.config import Protocol
from bench.harness.networks import bf16_instructions
from models import features
from models.inference.engines import Computing, evaluator
from models.network import IMAGENET, Network
from models.predictor import Card, NetworkPredictor
from models.recipes.batches import Preparation
from models.registry import MODELS

MODEL, BATCH = "deepmedix", 32
CPU = torch.device("cpu")
SIDES = {"torch": Computing(), "onnxruntime": Computing("onnxruntime"), "compile": Computing("compile"),
         "bf16": Computing("torch", "bf16")}  # fmt: skip
WANTED = {"torch": 4.0, "onnxruntime": 6.5, "bf16": 8.0}


def built() -> Network:
    torch.manual_seed(0)
    return MODELS.get(MODEL).build(3).requires_grad_(False).eval()


def plain(images: NDArray[np.uint8], module: torch.nn.Module, end: Callable[[torch.Tensor], Any]) -> Callable[[], Any]:
    """Batches of 32 through a module as it is built."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))

    @torch.inference_mode()
    def run() -> list[Any]:
        found = []
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).contiguous().float() / 255
            found.append(end(module((batch - mean) / std)))
        return found

    return run


def prediction_sides(images: NDArray[np.uint8], names: list[str]) -> dict[str, Callable[[], Any]]:
    """The whole way from images to probabilities."""
    sides: dict[str, Callable[[], Any]] = {"plain": plain(images, built(), lambda logits: logits.softmax(1).numpy())}
    for name in names:
        how, network = SIDES[name], built().to(memory_format=torch.channels_last)
        protocol = Protocol(engine=how.engine, precision=how.precision, image_size=images.shape[1])
        prepare = Preparation(IMAGENET, None, CPU, True)
        card = Card.of(MODELS.get(MODEL), ("a", "b", "c"), images.shape[1], prepare, protocol)
        predictor = NetworkPredictor(card, network, CPU)
        sides[name] = lambda predictor=predictor: predictor.of_images(images)  # type: ignore[misc]
    return sides


def feature_sides(images: NDArray[np.uint8], names: list[str], folder: Path) -> dict[str, Callable[[], Any]]:
    """The pass of a frozen backbone that fills the store of maps, written to a file on our side."""
    prepare = Preparation(IMAGENET, None, CPU, True)
    sides: dict[str, Callable[[], Any]] = {"plain": plain(images, built().backbone, lambda maps: maps.half().numpy())}
    for name in names:
        backbone = evaluator(built().to(memory_format=torch.channels_last).backbone, SIDES[name])
        given = (backbone, images, prepare, folder / f"{name}.npy", lambda event: None, lambda: False, 0)
        sides[name] = lambda given=given: features._compute(*given)  # type: ignore[misc]
    return sides


def agreement(sides: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The largest difference of a probability from plain's."""
    expected = np.concatenate(sides["plain"]())
    return {name: float(np.abs(side() - expected).max()) for name, side in sides.items() if name != "plain"}


def measured(kind: str, sides: dict[str, Callable[[], Any]], images: int, repetitions: int) -> dict[str, Any]:
    """A kind's rates and ratios."""
    starts = {}
    for name, side in sides.items():
        started = time.perf_counter()
        side()
        starts[name] = time.perf_counter() - started
    seconds = in_turns(sides, repetitions)
    found = {name: ratio(seconds, "plain", name) for name in sides if name != "plain"}
    goals = [goal(f"{kind}, {name} against plain", found[name], least) for name, least in WANTED.items()
             if name in found]  # fmt: skip
    return {"rates": rates(seconds, images), "ratios": found, "goals": goals, "first_call_s": starts}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="the engine compile too: minutes before it starts")
    parser.add_argument("--quick", action="store_true", help="64 images, 3 repetitions")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.repetitions = 64, 3
    names = [name for name in SIDES if (name != "compile" or asked.compile) and (name != "bf16" or bf16_instructions())]
    images = np.random.default_rng(0).integers(0, 256, (asked.images, asked.size, asked.size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        predicted = prediction_sides(images, names)
        found = {
            "settings": {"model": MODEL, "size": asked.size, "images": asked.images, "plain_batch": BATCH,
                         "repetitions": asked.repetitions},
            "prediction": measured("prediction", predicted, asked.images, asked.repetitions),
            "largest_difference_of_a_probability": agreement(predicted),
            "feature_pass": measured("feature pass", feature_sides(images, names, Path(folder)), asked.images,
                                     asked.repetitions),
            "machine": machine(),
        }  # fmt: skip
    if "bf16" not in names:
        print("not measured: bf16, for which this processor has no instructions")
    finish(found, asked.out)


if __name__ == "__main__":
    main()
