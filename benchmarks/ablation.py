"""The nine-variant head ablation, as the whole command, against the same epochs in plain Lightning.

    python benchmarks/ablation.py DATA WEIGHTS [--quick] [--modes off,quick,full] [--out FILE]

DATA is the folder of `figshare-brain` (3064 images), WEIGHTS a file of MobileNetV2's. Ours: `bench run` over the nine
variants at 224 px, 30 epochs at most, heads on the frozen backbone, once with each `--timing`, each time in a process
of its own and with empty caches: decoding, the backbone's pass, fits, predictions, statistics and the report are in it.
Plain: a LightningModule with a frozen torchvision backbone in evaluation mode without gradient, `ImageFolder`-like
JPEGs, torchvision's transforms and a `DataLoader` with two workers. It passes all images through the backbone in each
epoch, which would take hours. So its seconds are measured on a sample, before and after each of our commands, and are
multiplied by what ours did:

    plain = sum over cells of epochs run x (training images x t + validation images x v) + test images x v

with t and v the seconds of a trained and of an evaluated image. Time that plain would take to start is not counted.
`--quick`: 96 px, 3 epochs, two modes; about three minutes, and no figure to quote.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import finish, machine
from PIL import Image
from torch import nn

WANTED = {"full": 60.0, "quick": 150.0}
MOST_SECONDS = {"off": 80.0}
BATCH, CLASSES, EVALUATED = 32, 3, 64


@dataclass(frozen=True)
class Asked:
    """What is measured: sides of images in pixels, epochs at most, and images of the plain sample."""

    data: Path
    weights: Path
    size: int
    epochs: int
    sample: int


class Slices(torch.utils.data.Dataset[Any]):
    """Some JPEGs, decoded and transformed one by one."""

    def __init__(self, asked: Asked, augmented: bool) -> None:
        from torchvision import transforms

        with (asked.data / "index.csv").open() as file:
            rows = list(csv.DictReader(file))[:: max(1, 3064 // asked.sample)][: asked.sample]
        names = sorted({row["label"] for row in rows})
        self.items = [(asked.data / row["image"], names.index(row["label"])) for row in rows]
        moved = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)] if augmented else []
        half = transforms.Normalize((0.5,) * 3, (0.5,) * 3)
        size = transforms.Resize((asked.size, asked.size))
        self.transform = transforms.Compose([size, *moved, transforms.ToTensor(), half])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.items[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


class Plain(pl.LightningModule):
    """What a first script would be: frozen features, and a head with the paper's Dropout on the map."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2

        self.features = mobilenet_v2().features.requires_grad_(False).eval()
        hidden = [nn.Linear(1280, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, CLASSES)]
        self.head = nn.Sequential(nn.Dropout(0.4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden)
        self.begun = {"train": 0.0, "val": 0.0}
        self.seconds = {"train": 0.0, "val": 0.0}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, without a gradient into the backbone."""
        self.features.eval()
        with torch.no_grad():
            maps = self.features(images)
        return self.head(maps)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        """The loss of a batch."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, number: int) -> None:
        """The loss of a batch, for nobody."""
        nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the head."""
        return torch.optim.Adam(self.head.parameters(), lr=1e-3)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's clock."""
        self.begun["train"] = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        """Stop it, and start that of validation."""
        # Validation stands within the epoch, after its last batch.
        self.begun["val"] = time.perf_counter()
        self.seconds["train"] = self.begun["val"] - self.begun["train"]

    def on_validation_epoch_end(self) -> None:
        """Stop that one."""
        self.seconds["val"] = time.perf_counter() - self.begun["val"]


def plain_rates(asked: Asked) -> dict[str, float]:
    """Seconds of a trained and of an evaluated image: of the second of two epochs, when the workers are warm."""
    loaders = [
        torch.utils.data.DataLoader(Slices(asked, augmented), batch, shuffle=augmented, num_workers=2,
                                    persistent_workers=True)
        for augmented, batch in ((True, BATCH), (False, EVALUATED))
    ]  # fmt: skip
    module = Plain()
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(module, *loaders)
    return {kind: seconds / asked.sample for kind, seconds in module.seconds.items()}


def bench(arguments: list[str], environment: Mapping[str, str]) -> None:
    ended = subprocess.run([sys.executable, "-m", "bench", *arguments], env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"bench {' '.join(arguments)} ended with {ended.returncode}: {ended.stderr[-2000:]}")


def ours(asked: Asked, mode: str, folder: Path) -> dict[str, Any]:
    """Seconds of the whole command with empty caches, and what its cells did."""
    environment = {**os.environ, "BENCH_HOME": str(folder / "home"), "BENCH_CACHE": str(folder / "cache")}
    bench(["data", "add", "figshare-brain", str(asked.data)], environment)
    fields = {"tuning": "head", "image_size": asked.size, "epochs": asked.epochs}
    chosen = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
    grid = ["--models", "deepmedix*", "--datasets", "figshare-brain", "--regimes", "centralized", "--seeds", "1"]
    timed = ["--weights", str(asked.weights), "--timing", mode, "--progress", "none", "--out", str(folder / "run")]
    started = time.perf_counter()
    bench(["run", *grid, *chosen, *timed], environment)
    seconds = time.perf_counter() - started
    results = [json.loads(path.read_text()) for path in sorted((folder / "run" / "cells").glob("*/result.json"))]
    cells = [
        {"model": result["cell"]["model"], "seconds": result["seconds"], "epochs": result["metrics"]["epochs_run"]}
        | {name: result["data"][f"n_{name}"] for name in ("train", "val", "test")}
        for result in results
    ]
    return {"mode": mode, "seconds": seconds, "cells": cells}


def plain_seconds(cells: list[dict[str, Any]], rates: Mapping[str, float]) -> float:
    """The arithmetic of the docstring."""
    return sum(
        cell["epochs"] * (cell["train"] * rates["train"] + cell["val"] * rates["val"]) + cell["test"] * rates["val"]
        for cell in cells
    )


def judged(found: dict[str, Any], rates: list[dict[str, float]]) -> dict[str, Any]:
    """A command beside plain, by the rates measured before and after it."""
    mean = {kind: statistics.mean(rate[kind] for rate in rates) for kind in ("train", "val")}
    plain = plain_seconds(found["cells"], mean)
    ratio, mode = plain / found["seconds"], found["mode"]
    holds = ratio >= WANTED.get(mode, 0) and found["seconds"] <= MOST_SECONDS.get(mode, float("inf"))
    wanted = f"{WANTED[mode]:g} times" if mode in WANTED else f"at most {MOST_SECONDS[mode]:g} s"
    print(f"{'holds' if holds else 'FALLS SHORT'}: --timing {mode}: {found['seconds']:.1f} s, {ratio:.1f} times plain "
          f"({plain:.0f} s by arithmetic), wanted {wanted}", file=sys.stderr)  # fmt: skip
    return {**found, "plain_rates_s": mean, "plain_s": plain, "ratio": ratio, "wanted": wanted, "holds": holds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--modes", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    data, weights = given.data.resolve(), given.weights.resolve()
    asked = Asked(data, weights, 96, 3, 64) if given.quick else Asked(data, weights, 224, 30, 256)
    modes = given.modes or ("off,quick" if given.quick else "off,quick,full")
    before = machine()
    rates, commands = [plain_rates(asked)], []
    with tempfile.TemporaryDirectory() as temporary:
        for mode in modes.split(","):
            found = ours(asked, mode, Path(temporary) / mode)
            rates.append(plain_rates(asked))
            commands.append(judged(found, rates[-2:]))
    settings = {"image_size": asked.size, "epochs": asked.epochs, "sample": asked.sample, "quick": given.quick}
    finish({"machine": before, "settings": settings, "plain_rates_s": rates, "commands": commands}, given.out)


if __name__ == "__main__":
    main()
