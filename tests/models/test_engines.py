"""Engines: one answer from all of them; 16 bits; refused in a sentence where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.config import Protocol
from bench.core.errors import UserError
from models.calibrate import calibrate
from models.inference import engines
from models.inference.engines import Computing, SixteenBits, compiler, engine_problem, evaluator
from models.inference.precision import computing_in
from models.network import UNIT, Network
from models.predictor import Card, NetworkPredictor, load
from models.registry import MODELS

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (19, 64, 64, 3), np.uint8)


def network(name: str) -> Network:
    """With BatchNorm statistics of its images: as initialized, every map would shrink to nothing."""
    torch.manual_seed(1)
    built = MODELS.get(name).build(3)
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
    calibrate(built.backbone, [(pixels, pixels)])
    with torch.no_grad():
        for layer in built.head.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(1.5)  # so that the probabilities are far from equal
    return built.requires_grad_(False).eval()


def answers(built: Network, name: str, folder: Path, **how: str) -> np.ndarray:
    """Of a predictor that was stored and loaded again."""
    card = Card(name, MODELS.get(name).identity(), ("a", "b", "c"), 64, UNIT, True, "images", **how)  # type: ignore[arg-type]
    NetworkPredictor(card, built, CPU).save(folder)
    found = load(folder)
    assert found.card.computing == card.computing == Computing(**how)  # type: ignore[arg-type]
    return found.of_images(IMAGES)


def test_onnx_runtime_gives_the_probabilities_of_torch(tmp_path: Path) -> None:
    built = network("deepmedix")
    plain = answers(built, "deepmedix", tmp_path)
    other = answers(built, "deepmedix", tmp_path, engine="onnxruntime")
    assert plain.std(0).max() > 0.005
    assert not np.array_equal(plain, other)  # it was another engine
    assert np.abs(plain - other).max() <= 1e-5


@pytest.mark.long
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_a_compiled_network_gives_the_probabilities_of_torch(tiny_backbone: None, tmp_path: Path) -> None:
    built = network("linear@tiny")
    plain = answers(built, "linear@tiny", tmp_path)
    assert np.abs(plain - answers(built, "linear@tiny", tmp_path, engine="compile")).max() <= 1e-5


def test_sixteen_bits_are_computed_in_sixteen_and_stay_near(tmp_path: Path) -> None:
    built = network("deepmedix")
    seen: list[torch.dtype] = []
    rounded = evaluator(built.backbone, Computing(precision="bf16"))
    assert isinstance(rounded, SixteenBits)
    convolution = next(layer for layer in rounded.modules() if isinstance(layer, nn.Conv2d))
    convolution.register_forward_hook(lambda layer, given, result: seen.append(result.dtype))
    assert rounded(torch.zeros(1, 3, 64, 64)).dtype == torch.float32
    assert seen == [torch.bfloat16]
    plain, half = (answers(built, "deepmedix", tmp_path, precision=precision) for precision in ("32", "bf16"))
    # How the products are summed depends on the number of threads: single ones differed by 0.06 of an image's 0.5.
    assert 0 < np.abs(plain - half).mean() < 0.05
    assert {weight.dtype for weight in built.parameters()} == {torch.float32}


def test_a_module_computes_in_16_bits_inside_the_block_alone_and_sees_each_change_of_its_weights() -> None:
    layer, images = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    with computing_in(layer, "bf16"):
        first = layer(images)
        with torch.no_grad():
            layer.weight.fill_(1.0)
        assert layer(images).item() == 2.0
    assert first.dtype == torch.bfloat16
    assert layer.weight.dtype == layer(images).dtype == torch.float32


def test_what_cannot_be_used_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Computing("onnxruntime")
    assert engine_problem(runtime, CPU) == engine_problem(Computing(), torch.device("cuda")) == ""
    assert "on the CPU alone; use --device cpu" in engine_problem(runtime, torch.device("cuda"))
    assert "in 32 bits; use --set precision=32" in engine_problem(Computing("onnxruntime", "bf16"), CPU)
    monkeypatch.setattr(engines, "ONNX_PACKAGES", ("onnx", "no-such-package"))
    with pytest.raises(UserError, match=r'needs no-such-package: pip install "deepmedix-bench\[onnx\]", or --set'):
        evaluator(nn.Conv2d(3, 4, 3), runtime)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "needs a C\\+\\+ compiler" in engine_problem(Computing("compile"), CPU).replace("+", "\\+")
    assert engine_problem(Computing("compile"), torch.device("cuda")) == ""


def test_what_stored_maps_depend_on_is_empty_at_the_defaults() -> None:
    assert Computing.of(Protocol()).identity() == {}
    assert Computing.of(Protocol(precision="bf16")).identity() == {"precision": "bf16"}
    assert set(Computing.of(Protocol(engine="onnxruntime")).identity()) == {"engine", "onnxruntime"}


def test_a_card_that_was_stored_without_an_engine_is_of_torch_in_32_bits() -> None:
    older = {"model": "deepmedix", "identity": {}, "classes": ["a", "b"], "image_size": 64, "channels_last": True,
             "normalization": {"mean": [0] * 3, "std": [1] * 3}, "stored": "images"}  # fmt: skip
    assert Card.read(older).computing == Computing("torch", "32")
