"""What computes the maps of an evaluated backbone: torch, torch.compile or ONNX Runtime, BatchNorm folded in each."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.config import Engine, Precision, Protocol
from bench.core.errors import UserError
from bench.core.identity import without_defaults
from models.inference.precision import SixteenBits

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Computing:
    """How a backbone is computed at evaluation; its probabilities agree to 1e-5 between engines in 32 bits."""

    engine: Engine = "torch"
    precision: Precision = "32"

    @classmethod
    def of(cls, protocol: Protocol) -> Computing:
        """A protocol's."""
        return cls(protocol.engine, protocol.precision)

    def identity(self) -> dict[str, Any]:
        """What stored maps depend on, as plain values; nothing at the defaults, with which maps were stored before."""
        made_by = {"onnxruntime": version("onnxruntime")} if self.engine == "onnxruntime" else {}
        return {**without_defaults(asdict(self), asdict(PLAIN)), **made_by}


PLAIN = Computing()


def engine_problem(how: Computing, device: torch.device) -> str:
    """Why an engine cannot be used here, with the way out, in a sentence; "" where it can."""
    if how.engine == "compile" and device.type == "cpu" and not compiler():
        return "engine = compile needs a C++ compiler (g++, or what CXX names), which is not here; --set engine=torch"
    if how.engine != "onnxruntime":
        return ""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{needs_onnx('engine = onnxruntime', missing)}, or --set engine=torch"
    if device.type != "cpu":
        return "engine = onnxruntime computes on the CPU alone; use --device cpu, or --set engine=torch"
    if how.precision != "32":
        return f"engine = onnxruntime computes in 32 bits; use --set precision=32, or engine=torch for {how.precision}"
    return ""


def needs_onnx(what: str, missing: list[str]) -> str:
    """That something needs packages which are not installed, and the command that brings them."""
    return f'{what} needs {", ".join(missing)}: pip install "deepmedix-bench[onnx]"'


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call on a CPU; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def evaluator(backbone: nn.Module, how: Computing) -> nn.Module:
    """What computes the backbone's maps: images [N, 3, H, W] -> map [N, C, h, w], float32.

    With `compile` and `onnxruntime` the first batch of each shape takes seconds to minutes.

    Raises:
        UserError: the engine cannot be used here.
    """
    if problem := engine_problem(how, _device(backbone)):
        raise UserError(problem)
    whole = folded(backbone)
    if how.engine == "onnxruntime":
        return OnnxRuntime(whole)
    rounded = whole if how.precision == "32" else SixteenBits(whole, how.precision)
    return _Compiled(rounded) if how.engine == "compile" else rounded


def folded(backbone: nn.Module) -> nn.Module:
    """The backbone in evaluation mode, BatchNorms folded into their convolutions where it can be traced.

    On a CPU this computes the same map, to rounding, 1.7 times as fast (MobileNetV2 at 224 pixels).
    """
    backbone.eval()
    if not any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        return backbone
    try:
        return fuse(backbone)
    except (torch.fx.proxy.TraceError, RuntimeError, TypeError, NotImplementedError, NameError):
        # What branches on values or on Python's own functions, or calls layers that it does not hold (NameError),
        # cannot be traced; it computes the same without.
        return backbone


def _device(module: nn.Module) -> torch.device:
    found = next(module.parameters(), None)
    return torch.device("cpu") if found is None else found.device


class _Compiled(nn.Module):
    """A module compiled for evaluation, its weights as constants."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        options: Any = {"freezing": True} if _device(module).type == "cpu" else {}
        self._run: Any = torch.compile(module.requires_grad_(False), dynamic=False, options=options)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to the map [N, C, h, w]."""
        # Constants cannot be folded in inference mode.
        with torch.inference_mode(False), torch.no_grad():
            maps: Tensor = self._run(images.clone() if images.is_inference() else images)
        return maps


class OnnxRuntime(nn.Module):
    """A module in 32 bits computed by ONNX Runtime on the CPU, with a graph for each shape of input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._sessions: dict[tuple[int, ...], Any] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to the map [N, C, h, w]."""
        shape = tuple(images.shape)
        if shape not in self._sessions:
            self._sessions[shape] = self._session(shape)
        (maps,) = self._sessions[shape].run(None, {"images": images.contiguous().numpy()})
        return torch.from_numpy(maps)

    def _session(self, shape: tuple[int, ...]) -> Any:
        from models.inference.graphs import graph, session

        return session(graph(self._module, shape, dynamic=False), torch.get_num_threads())
