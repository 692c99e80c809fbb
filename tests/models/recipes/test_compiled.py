"""Training compiled: the same fit to rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.config import Protocol, Runtime
from bench.core.errors import UserError
from bench.data.loader import Part
from bench.harness.networks import check_runtime
from models.heads.config import LinearHeadConfig
from models.inference.engines import compiler
from models.network import UNIT, Network
from models.recipes.batches import Preparation
from models.recipes.context import FitContext, FitData
from models.recipes.gradient import COMPILED, fit
from models.registry import ModelSpec

CPU = torch.device("cpu")


def part(count: int, first: int) -> Part:
    labels = np.arange(count) % 2
    images = np.random.default_rng(first).integers(0, 200, (first + count, 16, 16, 3), np.uint8)
    images[first:] += (labels * 55).astype(np.uint8)[:, None, None, None]
    names = np.array([f"i{number}" for number in range(count)])
    return Part(images, np.arange(first, first + count), labels, names, names, np.full(count, ""))


def context(folder: Path, **fields: object) -> FitContext:
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
    folder.mkdir()
    return FitContext(
        ModelSpec("small", "identity", LinearHeadConfig()), ("a", "b"), 16,
        Network(trunk, LinearHeadConfig().build(4, 2)), Protocol(epochs=2, batch_size=8, **fields),  # type: ignore
        "centralized", FitData(part(32, 0), part(16, 40)),
        Preparation(UNIT, None, CPU, True), 5, 6, folder, CPU,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_a_compiled_fit_is_the_ordinary_one_to_rounding_and_says_so(tmp_path: Path) -> None:
    plain, compiled = context(tmp_path / "plain"), replace(context(tmp_path / "compiled"), compile=True)
    one, other = fit(plain), fit(compiled)
    assert COMPILED in other.notes
    assert COMPILED not in one.notes
    for first, second in zip(one.history, other.history, strict=True):
        assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-4)
    for name, tensor in plain.module.state_dict().items():
        torch.testing.assert_close(compiled.module.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_head_on_stored_maps_is_never_compiled(tmp_path: Path) -> None:
    assert not replace(context(tmp_path / "head", tuning="head"), compile=True).compiled
    assert replace(context(tmp_path / "full"), compile=True).compiled


def test_without_a_compiler_it_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"--compile needs a C\+\+ compiler"):
        check_runtime(Protocol(), Runtime(device="cpu", compile=True))
    check_runtime(Protocol(), Runtime(device="cpu"))
