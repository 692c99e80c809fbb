"""Full tuning at 224 pixels, batch 32: this package with loading against plain Lightning, and against timm's bare step.

    python benchmarks/full_tuning.py [--quick] [--compile] [--out benchmarks/results/full_tuning.json]

Plain: `ImageFolder` of JPEGs (256 x 256), torchvision's transforms, a `DataLoader` without workers (two cores gain
nothing by them), a LightningModule with Adam, everything at its defaults. timm: its own MobileNetV2, optimizer and
channels_last, one batch in memory, without any loading. Ours: `models.recipes.gradient.fit`, images from the decoded
cache, augmented. Each side's seconds are those of its training batches alone, in turns. Torch keeps its threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from common import finish, goal, machine, rates, ratio
from numpy.typing import NDArray
from PIL import Image

from bench.core.config import Protocol
from bench.data.loader import Part
from bench.harness.networks import bf16_instructions
from bench.measure.throughput import SECONDS
from models.network import IMAGENET
from models.recipes import gradient
from models.recipes.batches import Preparation
from models.recipes.context import FitContext, FitData
from models.registry import MODELS

MODEL, BATCH, CLASSES = "deepmedix", 32, 3
Side = Callable[[], float]


@dataclass(frozen=True)
class Asked:
    """The work of one repetition."""

    size: int
    batches: int

    @property
    def images(self) -> int:
        return self.batches * BATCH


class PlainModule(pl.LightningModule):
    """What a first script would be; it times its own epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MODELS.get(MODEL).build(CLASSES)
        self.seconds = 0.0

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.network(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def on_train_epoch_start(self) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.seconds = time.perf_counter() - self._started


def plain_lightning(asked: Asked, folder: Path) -> Side:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    random = np.random.default_rng(0)
    for number in range(asked.images):
        place = folder / f"class-{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)
    scaled = [transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.std)]
    steps = [transforms.Resize((asked.size, asked.size)), transforms.RandomHorizontalFlip(),
             transforms.RandomRotation(10), *scaled]  # fmt: skip
    dataset = ImageFolder(str(folder), transforms.Compose(steps))
    module = PlainModule()

    def run() -> float:
        loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True)
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                             enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
        trainer.fit(module, loader)
        return module.seconds

    return run


def timm_step(asked: Asked, precision: str) -> Side:
    import timm
    from timm.optim import create_optimizer_v2

    network = timm.create_model("mobilenetv2_100", num_classes=CLASSES).to(memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(network, opt="adam", lr=1e-3)
    images = torch.randn(BATCH, 3, asked.size, asked.size).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % CLASSES

    def run() -> float:
        started = time.perf_counter()
        for _ in range(asked.batches):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - started

    return run


def part(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Part:
    names = np.array([f"i{row}" for row in rows])
    return Part(images, rows, rows % CLASSES, names, names, np.full(len(rows), ""))


def ours(asked: Asked, folder: Path, compiled: bool = False, **fields: Any) -> Side:
    images = np.random.default_rng(1).integers(0, 256, (asked.images + 4, asked.size, asked.size, 3), np.uint8)
    torch.manual_seed(0)
    network = MODELS.get(MODEL).build(CLASSES).to(memory_format=torch.channels_last)
    protocol = Protocol(image_size=asked.size, epochs=1, batch_size=BATCH, **fields)
    data = FitData(part(images, np.arange(asked.images)), part(images, np.arange(asked.images, asked.images + 4)))
    cpu, number = torch.device("cpu"), iter(range(10**6))

    def run() -> float:
        place = folder / str(next(number))
        place.mkdir(parents=True)
        context = FitContext(
            MODELS.get(MODEL), ("a", "b", "c"), asked.size, network, protocol, "centralized", data,
            Preparation(IMAGENET, "brain", cpu, True), 1, 2, place, cpu, compile=compiled,
        )  # fmt: skip
        return float(gradient.fit(context).history[-1][SECONDS])

    return run


def all_sides(asked: Asked, folder: Path, compiled: bool) -> dict[str, Side]:
    sides = {"plain": plain_lightning(asked, folder / "jpegs"), "timm": timm_step(asked, "32"),
             "ours": ours(asked, folder / "ours")}  # fmt: skip
    if bf16_instructions():
        sides["timm bf16"] = timm_step(asked, "bf16")
        sides["bf16"] = ours(asked, folder / "bf16", precision="bf16")
    if compiled:
        sides["compile"] = ours(asked, folder / "compiled", compiled=True)
    return sides


def in_turns_of_their_own_seconds(sides: dict[str, Side], repetitions: int) -> tuple[dict[str, list[float]], Any]:
    """What each side says that its batches took, and the seconds of its first call."""
    first, seconds = {}, {name: [] for name in sides}  # type: ignore[var-annotated]
    for name, side in sides.items():
        started = time.perf_counter()
        side()
        first[name] = round(time.perf_counter() - started, 1)
        print(f"warmed up: {name} ({first[name]} s)", flush=True)
    names = list(sides)
    for number in range(repetitions):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds[name].append(sides[name]())
    return seconds, first


GOALS = (("full tuning against plain Lightning + ImageFolder", "plain", "ours", 1.75),
         ("full tuning against timm's step", "timm", "ours", 0.98),
         ("full tuning in bf16 against timm's step in bf16", "timm bf16", "bf16", 0.98),
         ("--compile against our own", "ours", "compile", 1.1),
         ("bf16 against plain Lightning", "plain", "bf16", 2.5))  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="compiled too: two minutes or more before it starts")
    parser.add_argument("--quick", action="store_true", help="2 batches, 3 repetitions")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.batches, asked.repetitions = 2, 3
    gradient.quiet()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        work = Asked(asked.size, asked.batches)
        sides = all_sides(work, Path(folder), asked.compile)
        seconds, first = in_turns_of_their_own_seconds(sides, asked.repetitions)
    goals = [goal(name, ratio(seconds, slow, fast), least) for name, slow, fast, least in GOALS
             if slow in seconds and fast in seconds]  # fmt: skip
    left_out = [name for name, slow, fast, _ in GOALS if slow not in seconds or fast not in seconds]
    for name in left_out:
        print(f"not measured: {name}")
    settings = {"model": MODEL, "size": asked.size, "batch": BATCH, "batches": asked.batches,
                "repetitions": asked.repetitions}  # fmt: skip
    finish({"settings": settings, "rates": rates(seconds, work.images), "goals": goals, "not_measured": left_out,
            "first_call_s": first, "machine": machine()}, asked.out)  # fmt: skip


if __name__ == "__main__":
    main()
