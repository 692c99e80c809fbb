"""Gradient inversion: figures by hand, and a phantom that an unprotected update shows and a private one does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.analyses.inversion.analysis import inversion
from bench.analyses.inversion.attack import cosine_distance, features_of, psnr, total_variation
from bench.analyses.inversion.settings import InversionSettings
from bench.core.config import Runtime, load_protocol
from bench.core.errors import UserError
from bench.executors.run import execute
from bench.harness.finished import FinishedCell
from bench.harness.plan import Request, make_plan
from bench.store.run import Run
from models.backbones.registry import BACKBONES, Backbone

SMALL = ["image_size=32", "epochs=1", "synthetic_images=120", "timing_batch_size=2", "bootstrap_resamples=100"]


def smooth() -> nn.Module:
    """Strided convolutions with sigmoids, the last over the whole map: smooth networks show most (Zhu et al. 2019)."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 32, 8),
        nn.Sigmoid(),
    )


def finished(folder: Path, tuning: str) -> FinishedCell:
    if "smooth" not in BACKBONES.names():
        BACKBONES.register("smooth", Backbone("smooth", 32, smooth))
    protocol = load_protocol("demo", [*SMALL, f"tuning={tuning}"])
    asked = Request(
        models="linear@smooth", datasets="phantom-brain", regimes="centralized", seeds="1", protocol=protocol
    )
    execute(make_plan(asked), Run.create(folder), Runtime(timing="off"), [])
    return FinishedCell.of(Run.open(folder).cells()[0])


def test_a_linear_layer_shows_its_inputs_exactly() -> None:
    layer, features = nn.Linear(4, 3), torch.tensor([[0.5, -2.0, 0.0, 3.0]])
    loss = nn.functional.cross_entropy(layer(features), torch.tensor([1]))
    gradient = torch.autograd.grad(loss, list(layer.parameters()))
    np.testing.assert_allclose(features_of(gradient, ["weight", "bias"]), features[0], rtol=1e-5)
    assert features_of(gradient[:1], ["weight"]) is None


def test_figures_by_hand() -> None:
    """Vectors (3, 0, 0) and (3, 4, 0): cosine 0.6. An error of 0.1 is 20 dB. A step of 1 across two columns."""
    one, two = [torch.tensor([3.0, 0.0]), torch.zeros(1)], [torch.tensor([3.0, 4.0]), torch.zeros(1)]
    assert float(cosine_distance(one, two)) == pytest.approx(0.4)
    assert psnr(torch.full((1, 3, 2, 2), 0.6), torch.full((1, 3, 2, 2), 0.5)).tolist() == pytest.approx(
        [20.0], rel=1e-5
    )
    assert float(total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))) == pytest.approx(1.0)


@pytest.mark.slow
def test_one_unprotected_image_is_recovered_and_a_private_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    cell = finished(tmp_path / "run", "full")
    settings = InversionSettings(batches=(1,), victims=1, protections=("none", "local DP"), steps=250)
    answer = inversion(cell, settings, tmp_path / "files")
    rows = {row["protection"]: row for row in answer.tables["attacks"]}
    for name, row in rows.items():
        print(name, {key: value for key, value in row.items() if "_low" not in key and "_high" not in key})
    gain, private = (answer.columns[name].value for name in ("inversion_gain", "inversion_gain_dp"))
    assert gain is not None
    assert private is not None
    assert gain >= 5
    assert private < 0
    assert rows["none"]["features_error"] < 1e-3
    assert rows["local DP"]["features_error"] > 1
    assert any("epsilon 10.00 at delta 1e-05" in note for note in answer.notes)
    assert (tmp_path / "files" / "batch-1.png").read_bytes().startswith(b"\x89PNG")


def test_a_frozen_backbone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    cell = finished(tmp_path / "run", "head")
    with pytest.raises(UserError, match="attacks the whole network's gradient; run the cell with --set tuning=full"):
        inversion(cell, InversionSettings(), tmp_path)
