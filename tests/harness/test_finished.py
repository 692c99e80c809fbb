"""A finished cell from its folder alone: its predictor answers as it did, bit for bit."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.harness.finished import FinishedCell
from bench.store.layout import PREDICTOR_WEIGHTS
from bench.store.run import Run
from models.deepmedix import VARIANTS
from models.predictor import NetworkPredictor
from tests.harness.conftest import MakePlan, RunPlan

NINE = ",".join(variant.name for variant in VARIANTS)
FULL = "tuning=full"
GRIDS = {
    "nine variants": (NINE, "centralized", ()),
    "a baseline's head": ("squeezenet1_1", "centralized", ()),
    "a whole baseline": ("resnet18", "centralized", (FULL, "epochs=1")),
    "refit": ("deepmedix@tiny", "centralized", ("refit=true",)),
    "unit normalization": ("deepmedix@tiny", "centralized", ("normalization=unit", "channels_last=false", FULL)),
    "heads of every regime": ("deepmedix@tiny", "all", ("federated.clients=3", "federated.rounds=2")),
    "networks of every regime": ("linear@tiny", "all", (FULL, "federated.clients=3", "federated.rounds=2")),
    "group norm": ("deepmedix@tiny", "fedavg", (FULL, "federated.batch_norm=group", "federated.clients=3")),
    "group norm of a head": ("deepmedix@tiny", "fedavg", ("federated.batch_norm=group", "federated.clients=3")),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_a_moved_run_answers_as_it_did(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, grid: str) -> None:
    models, regimes, overrides = GRIDS[grid]
    plan = small_plan(models, overrides, regimes=regimes)
    assert run_plan(plan).done == len(plan.cells)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(tmp_path / "run", elsewhere)
    for planned in plan.cells:
        cell = FinishedCell.open(elsewhere, planned.key[:12])
        stored = cell.stored.predictions()
        shares = np.stack([stored[f"p_{name}"].to_numpy() for name in cell.classes], axis=1)
        images = cell.images()
        assert np.array_equal(cell.predictor.of_images(images), shares), cell.spec.name
        some = np.random.default_rng(1).permutation(len(images))[:5]
        assert np.array_equal(cell.predictor.of_images(images[some]), shares[some]), cell.spec.name


def test_what_a_finished_cell_gives(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> None:
    (planned,) = small_plan("deepmedix@tiny").cells
    run_plan(small_plan("deepmedix@tiny"))
    cell = FinishedCell.open(tmp_path / "run", "deepmedix@tiny · *")
    assert (cell.key, cell.spec) == (planned.key, planned.spec)
    assert [row["epoch"] for row in cell.history()] == [0, 1]
    assert isinstance(cell.predictor, NetworkPredictor)
    logits = cell.predictor.network(cell.prepare(cell.images("val")))
    val = cell.predictions("val")
    # The head was trained on maps in half precision; the network itself computes in single.
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), val.probabilities, atol=1e-3)
    assert cell.result["metrics"]["accuracy"] == cell.predictions().right.mean()
    ids = [set(cell.predictions(part).ids) for part in ("train", "val", "test")]
    assert set.union(*ids) == set(cell.table.ids)
    assert sum(map(len, ids)) == len(cell.table)
    assert (cell.folder / "predictions-val.parquet").is_file()
    assert cell.history()[cell.result["metrics"]["best_epoch"].__int__()]["val_accuracy"] == val.right.mean()
    assert stat.S_IMODE((cell.folder / "predictor" / PREDICTOR_WEIGHTS).stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_is_not_there_is_named(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> None:
    run_plan(small_plan("deepmedix@tiny,linear@tiny"))
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"has no cell 'nothing'"):
        FinishedCell.open(run, "nothing")
    with pytest.raises(UserError, match=r"'\*' stands for 2 cells .* give more of the key"):
        FinishedCell.open(run, "*")
    first, second = (FinishedCell.of(cell) for cell in Run.open(run).cells())
    (first.folder / "predictor" / PREDICTOR_WEIGHTS).write_bytes(b"rubbish")
    with pytest.raises(UserError, match="holds no predictor that can be read"):
        _ = first.predictor
    shutil.rmtree(second.folder / "predictor")
    with pytest.raises(UserError, match="kept less than its answers need; run it again"):
        _ = second.predictor
    second.result["data"]["fingerprint"] = "another"
    with pytest.raises(UserError, match="phantom-brain is not what this cell was run on: its ids, labels, groups"):
        _ = second.table
