"""Networks on their device, and what they cost there."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from pydantic import FiniteFloat
from torch import nn
from typing_extensions import TypedDict

from bench.core.atomic import write_json
from bench.core.config import Protocol, Runtime
from bench.core.errors import UserError
from bench.core.identity import derive_seed, digest
from bench.core.paths import cache
from bench.core.schema import read_json
from bench.harness.plan import Setup
from bench.measure.columns import names_of
from bench.measure.cost import cost
from bench.measure.rounds import Effort, Subject, in_rounds
from bench.measure.seeding import seed_torch
from bench.measure.steps import backward_step
from models.backbones.code import code_of, versions
from models.backbones.probe import build_without_memory
from models.backbones.registry import BACKBONES
from models.calibrate import put_statistics
from models.inference.engines import Computing, compiler, engine_problem
from models.network import Network
from models.registry import ModelSpec
from models.weights.initial import built


class _Counts(TypedDict):
    params_m: FiniteFloat
    macs_m: FiniteFloat
    flops_m: FiniteFloat
    activations_m: FiniteFloat
    uncounted: dict[str, int]
    image_size: int


_COUNTS_VERSION = 1  # of the way in which `bench.measure.cost` counts


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
    """Refuse a device that is not there, an engine that cannot be used, and 16 bits where they cannot pay.

    Raises:
        UserError: in one sentence.
    """
    device = pick_device(runtime)
    if problem := engine_problem(Computing.of(protocol), device):
        raise UserError(problem)
    if runtime.compile and device.type == "cpu" and not compiler():
        raise UserError("--compile needs a C++ compiler (g++, or what CXX names), which is not here; leave it out")
    if device.type != "cpu" or protocol.precision == "32":
        return
    if protocol.precision == "fp16":
        raise UserError(
            "precision = fp16 runs on GPUs only; use --set precision=32, or bf16 where the processor has it"
        )
    if not bf16_instructions():
        raise UserError(
            "precision = bf16 needs a GPU, or a processor with AVX512_BF16 or AMX, which this one lacks; "
            "use --set precision=32"
        )
    gain = bf16_gain()
    if gain < 1:
        raise UserError(
            f"precision = bf16 would be slower here: this processor has the instructions, but a block of MobileNetV2's "
            f"reaches {gain:.2f} of its speed in 32 bits; use --set precision=32"
        )


def bf16_instructions() -> bool:
    """Whether torch finds instructions for bfloat16 products in the processor."""
    asked: Any = torch.cpu
    return bool(asked._is_avx512_bf16_supported() or asked._is_amx_tile_supported())


@lru_cache(maxsize=16)
def bf16_gain(image_size: int = 224) -> float:
    """How many times as fast a block of MobileNetV2's trains in bfloat16 as in 32 bits, on maps of an image's size.

    The best of many steps of each kind, in turns and by one thread, so that other work on the machine matters little;
    about a second. On small maps the gain may be a loss.

    Args:
        image_size: side of the images, pixels; the block's maps have a sixteenth of it.
    """
    side = max(1, image_size // 16)
    batch = torch.zeros(16, 96, side, side).to(memory_format=torch.channels_last)
    steps = {precision: backward_step(_block(), batch, precision, torch.optim.SGD) for precision in ("32", "bf16")}
    subjects = [Subject(precision, step, threads=1) for precision, step in steps.items()]
    found = in_rounds(subjects, batch.device, Effort(20, 20, 3, 0.0)).samples
    return min(found["32"]) / min(found["bf16"])


def _block() -> nn.Module:
    """An inverted residual block without its shortcut: 96 channels to 576, depthwise, and back."""
    wide = (nn.BatchNorm2d(576), nn.ReLU6())
    depthwise = nn.Conv2d(576, 576, 3, padding=1, groups=576, bias=False)
    first, last = nn.Conv2d(96, 576, 1, bias=False), nn.Conv2d(576, 96, 1, bias=False)
    return nn.Sequential(first, *wide, depthwise, *wide, last, nn.BatchNorm2d(96)).to(memory_format=torch.channels_last)


def precision_note(protocol: Protocol, runtime: Runtime) -> str:
    """That bf16 trains more slowly than 32 bits at a protocol's size here, in a sentence; "" where it does not.

    It is not refused: a comparison of sizes keeps one precision.

    Args:
        protocol: the settings of a run; runtime: says on which device.
    """
    if protocol.precision != "bf16" or protocol.tuning != "full" or pick_device(runtime).type != "cpu":
        return ""
    gain = bf16_gain(protocol.image_size)
    if gain >= 1:
        return ""
    return (
        f"precision = bf16 is slower at {protocol.image_size} pixels here: a block of MobileNetV2's reaches {gain:.2f} "
        f"of its speed in 32 bits, and {bf16_gain():.2f} at 224 pixels; --set precision=32 is the faster one"
    )


def initial_network(setup: Setup, num_classes: int, device: torch.device) -> Network:
    """The network before the fit: built from the cell's seed, initial weights loaded, on its device.

    Args:
        setup: the model, its weights and seeds.
        num_classes: width of the logits.
        device: where the network goes.

    Raises:
        ValueError: the set-up brings statistics that do not fit the backbone.
    """
    seed_torch(derive_seed(setup.spec.fit_seed, "init"))
    network = built(setup.model, num_classes, setup.weights)
    if setup.statistics:
        put_statistics(network.backbone, setup.statistics)
    return placed(network, setup.protocol, device)


def placed(network: Network, protocol: Protocol, device: torch.device) -> Network:
    """The network on its device and in the protocol's memory format, the backbone frozen if only the head is tuned.

    On a GPU 32 bits are 32 bits from here on: convolutions and products do without TF32, whose factors have 10 bits.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if protocol.tuning == "head":
        network.freeze_backbone()
    network.to(device)
    if protocol.channels_last:
        network.to(memory_format=torch.channels_last)
    return network


def tf32(device: torch.device) -> bool | None:
    """Whether a GPU may round factors to TF32; None where there is no such thing."""
    return torch.backends.cudnn.allow_tf32 if device.type == "cuda" else None


@lru_cache(maxsize=256)
def model_cost(model: ModelSpec, num_classes: int, image_size: int) -> dict[str, Any]:
    """Parameters and operations of a model, in millions, and what was not counted.

    Kept in the user's cache by what they depend on: the model with its code, classes, size and the packages' versions.

    Args:
        model: the registered model.
        num_classes: width of the logits.
        image_size: side of the images in pixels.
    """
    with torch.random.fork_rng(devices=[]):
        empty = build_without_memory(lambda: model.build(num_classes))
    made_by = {"code": code_of(empty, BACKBONES.get(model.backbone).build), "packages": versions("torch", "fvcore")}
    asked = {"model": model.identity(), "classes": num_classes, "size": image_size, "version": _COUNTS_VERSION}
    path = cache() / "counts" / f"{digest({**asked, **made_by}, length=24)}.json"
    if path.is_file():
        # A file that cannot be read is counted anew below; nothing is lost with it.
        with suppress(UserError):
            return dict(read_json(path, _Counts, "delete it to count anew"))
    found = cost(model.build(num_classes), image_size)
    sums = {name: value for name, value in vars(found).items() if name in names_of("cost")}
    counts = {**sums, "uncounted": dict(found.uncounted), "image_size": image_size}
    write_json(path, counts)
    return counts
