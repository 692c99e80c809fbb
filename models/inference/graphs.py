"""ONNX graphs of modules, and sessions that run them. Needs the extra `onnx`."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

INPUT, OUTPUT = "images", "probabilities"


def graph(module: nn.Module, shape: tuple[int, ...], dynamic: bool, output: str = OUTPUT) -> bytes:
    """The ONNX graph of a module in evaluation mode, serialized.

    Args:
        shape: of the input `images`, [N, 3, H, W].
        dynamic: leave N open.
        output: the name of what it computes.
    """
    # What is named so could not be exported with one image: a batch of one is taken for a constant.
    example = torch.zeros(max(shape[0], 2) if dynamic else shape[0], *shape[1:])
    batch: Any = {"dynamic_shapes": {"images": {0: torch.export.Dim("batch")}}} if dynamic else {}
    wrapped = _Named(module.eval())
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                wrapped, (example,), dynamo=True, verbose=False, input_names=[INPUT], output_names=[output], **batch
            )
    finally:
        log.setLevel(level)
    found: bytes = program.model_proto.SerializeToString()
    return found


def session(model: bytes | Path, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Args:
        model: a serialized graph, or its file.
        threads: that one image's answer may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take the cores from torch, which computes the head.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class _Named(nn.Module):
    """Gives the input of any module one name, by which its first dimension is declared open."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(images)
        return found
