"""Everything that wants a GPU, by one command; what cannot be measured here is printed.

    python benchmarks/gpu.py [--data FOLDER_OF_JPEGS] [--out benchmarks/results/gpu.json]
    python benchmarks/gpu.py --device cpu --size 32 --steps 2 --classes 3     a check that the script itself works

Measures, for `deepmedix` at batch 32: a training step (32 bits without TF32, with it, bf16; eager, compiled, as a CUDA
graph), images a second with loading (uint8 images that stay on the device and are augmented there, against a timm-like
loop of workers that decode JPEGs), several cells on one GPU, and several seeds of one network fused into grouped
convolutions.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, machine
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.data.images.augment import augment
from bench.measure.steps import autocast, clock_of
from models.network import IMAGENET
from models.registry import MODELS

MODEL, BATCH = "deepmedix", 32
TRAIN_MS, LOADING_RATIO = 6.0, 2.0
PRECISIONS = ("32", "tf32", "bf16")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """TF32 as said inside the block, and off afterwards, as the harness sets it."""
    for place in (torch.backends.cudnn, torch.backends.cuda.matmul):
        place.allow_tf32 = allowed
    try:
        yield
    finally:
        for place in (torch.backends.cudnn, torch.backends.cuda.matmul):
            place.allow_tf32 = False


class Bench:
    """The settings, and the networks and batches that they ask for."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.device, self.size = torch.device(asked.device), asked.size
        self.steps, self.classes = asked.steps, asked.classes
        self.cuda = self.device.type == "cuda"

    def network(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        network = MODELS.get(MODEL).build(self.classes).to(self.device)
        return network.to(memory_format=torch.channels_last).train()

    def batch(self) -> tuple[Tensor, Tensor]:
        images = torch.randn(BATCH, 3, self.size, self.size, device=self.device)
        labels = torch.arange(BATCH, device=self.device) % self.classes
        return images.to(memory_format=torch.channels_last), labels

    def median_ms(self, step: Callable[[], object]) -> dict[str, float]:
        """By the device's own events, after a fifth as many unmeasured steps and at least three."""
        clock = clock_of(self.device)
        for _ in range(max(3, self.steps // 5)):
            step()
        taken = [clock(step) for _ in range(self.steps)]  # type: ignore[arg-type]
        return {"median_ms": statistics.median(taken), "fastest_ms": min(taken), "slowest_ms": max(taken)}

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


def adam(network: nn.Module, capturable: bool = False) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=True, capturable=capturable)


def eager(bench: Bench, precision: str, compiled: bool) -> Callable[[], None]:
    network, (images, labels) = bench.network(), bench.batch()
    run: Any = torch.compile(network, dynamic=False) if compiled else network
    optimizer = adam(network)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(bench.device, precision):
            loss = cross_entropy(run(images).float(), labels)
        loss.backward()
        optimizer.step()

    return step


def graphed(bench: Bench, precision: str) -> Callable[[], None]:
    """The whole step recorded once and replayed: batch 32 is bound by the launching of kernels."""
    network, (images, labels) = bench.network(), bench.batch()
    optimizer = adam(network, capturable=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(bench.device, precision):
            loss = cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()

    side: Any = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    return recorded.replay


def training_steps(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        with tf32(precision == "tf32"):
            plain = "32" if precision == "tf32" else precision
            kinds: dict[str, Callable[[], Callable[[], object]]] = {"eager": lambda: eager(bench, plain, False)}  # noqa: B023
            if bench.cuda:
                kinds["compiled"] = lambda: eager(bench, plain, True)  # noqa: B023
                kinds["graph"] = lambda: graphed(bench, plain)  # noqa: B023
            for name, make in kinds.items():
                found[f"{name}, {precision}"] = bench.median_ms(make())
    return found


def resident(bench: Bench, count: int = 512) -> float:
    """Images a second: uint8 images on the device, batches drawn, augmented and normalized there."""
    pixels = torch.randint(0, 256, (count, bench.size, bench.size, 3), dtype=torch.uint8, device=bench.device)
    labels = torch.arange(count, device=bench.device) % bench.classes
    network = bench.network()
    optimizer, generator = adam(network), torch.Generator().manual_seed(0)

    def step() -> None:
        rows = torch.randint(0, count, (BATCH,), generator=generator).to(bench.device)
        images = pixels[rows].permute(0, 3, 1, 2).float().div_(255)
        images = IMAGENET(augment(images, "brain", generator)).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with autocast(bench.device, "bf16"):
            loss = cross_entropy(network(images).float(), labels[rows])
        loss.backward()
        optimizer.step()

    return rate(bench, step)


def rate(bench: Bench, step: Callable[[], object]) -> float:
    for _ in range(3):
        step()
    bench.synchronize()
    started = time.perf_counter()
    for _ in range(bench.steps):
        step()
    bench.synchronize()
    return bench.steps * BATCH / (time.perf_counter() - started)


def from_jpegs(bench: Bench, folder: Path, workers: int) -> float:
    """Images a second: a timm-like loop, whose workers decode and augment JPEGs, in the same precision."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [
        transforms.Resize((bench.size, bench.size)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(10),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET.mean, IMAGENET.std),
    ]
    dataset = ImageFolder(str(folder), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers,
                                         pin_memory=bench.cuda, persistent_workers=workers > 0)  # fmt: skip
    network = bench.network()
    optimizer = adam(network)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    source = batches()

    def step() -> None:
        images, labels = next(source)
        images = images.to(bench.device, non_blocking=True, memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with autocast(bench.device, "bf16"):
            loss = cross_entropy(network(images).float(), labels.to(bench.device, non_blocking=True) % bench.classes)
        loss.backward()
        optimizer.step()

    return rate(bench, step)


def drawn_jpegs(folder: Path, count: int = 256) -> Path:
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class-{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8))
        small.resize((512, 512), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)
    return folder


def several_cells(asked: argparse.Namespace, most: int = 4) -> dict[str, float]:
    """Images a second of all together, by how many processes train on the one GPU."""
    command = [sys.executable, __file__, "--one-cell", "--device", asked.device, "--size", str(asked.size),
               "--steps", str(asked.steps), "--classes", str(asked.classes)]  # fmt: skip
    found = {}
    for count in (1, 2, most):
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        told = [process.communicate()[0] for process in running]
        found[str(count)] = sum(float(text.strip().splitlines()[-1]) for text in told)
    return found


def fused_seeds(bench: Bench, seeds: int = 4) -> dict[str, Any]:
    """A step of several seeds of one network: one after the other, and as grouped convolutions (torch.func.vmap).

    BatchNorm takes the batch's own statistics on both sides, since vmap cannot update running ones; no dropout.
    """
    from torch.func import functional_call, grad, replace_all_batch_norm_modules_, stack_module_state, vmap

    networks = [bench.network(seed).apply(_without_dropout) for seed in range(seeds)]
    for network in networks:
        replace_all_batch_norm_modules_(network)
    images, labels = bench.batch()
    parameters, buffers = stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")

    def loss(values: Any, kept: Any) -> Tensor:
        return cross_entropy(functional_call(skeleton, (values, kept), (images,)), labels)

    together: Any = vmap(grad(loss), in_dims=(0, 0), randomness="different")

    def apart() -> None:
        for network in networks:
            cross_entropy(network(images), labels).backward()
            network.zero_grad(set_to_none=True)

    one, other = bench.median_ms(apart), bench.median_ms(lambda: together(parameters, buffers))
    return {"seeds": seeds, "apart": one, "fused": other, "ratio": one["median_ms"] / other["median_ms"]}


def _without_dropout(layer: nn.Module) -> None:
    if "dropout" in type(layer).__name__.lower():
        layer.eval()


def told(found: dict[str, Any]) -> None:
    """The two goals, in words."""
    best = min(found["training_step"].items(), key=lambda item: float(item[1]["median_ms"]))
    verdict = "holds" if best[1]["median_ms"] <= TRAIN_MS else "FALLS SHORT"
    print(f"{verdict}: training step {best[1]['median_ms']:.2f} ms ({best[0]}), wanted at most {TRAIN_MS:g}")
    loading = found["loading"]
    verdict = "holds" if loading["ratio"] >= LOADING_RATIO else "FALLS SHORT"
    print(f"{verdict}: images a second with loading, {loading['ratio']:.2f} times, wanted {LOADING_RATIO:g}")


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(asked)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.data or drawn_jpegs(Path(temporary), 256 if bench.cuda else BATCH)
        ours, theirs = resident(bench), from_jpegs(bench, folder, asked.workers if bench.cuda else 0)
    loading = {"resident": ours, "from_jpegs": theirs, "workers": asked.workers, "ratio": ours / theirs}
    found = {"training_step": training_steps(bench), "loading": loading, "cells_on_one_gpu": several_cells(asked)}
    return found | {"fused_seeds": fused_seeds(bench)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--data", type=Path, help="folders of JPEGs by class; drawn ones if not given")
    parser.add_argument("--one-cell", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        lines = ("training step of at most 6 ms, eager, compiled and as a CUDA graph, in 32 bits, TF32 and bf16",
                 "images a second with loading, resident on the device, against workers that decode JPEGs",
                 "several cells on one GPU", "several seeds fused into grouped convolutions")  # fmt: skip
        for line in lines:
            print(f"not measured: {line}: there is no CUDA device here")
        finish({"not_measured": lines, "machine": machine()}, asked.out)
        return
    if asked.one_cell:
        print(resident(Bench(asked)))
        return
    found = measured(asked)
    finish({"settings": {"model": MODEL, "batch": BATCH, "size": asked.size, "steps": asked.steps}, **found,
            "machine": machine()}, asked.out)  # fmt: skip
    told(found)
    if not asked.device.startswith("cuda"):
        print("not measured: anything of a GPU; this was a check of the script")


if __name__ == "__main__":
    main()
