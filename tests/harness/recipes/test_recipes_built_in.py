"""Recipes that are not one fit: what they learn, how they go on after a stop, and that they answer when stored."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch import nn

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.executors.run import execute
from bench.harness.finished import FinishedCell
from bench.store.run import Run
from models.backbones.registry import BACKBONES, Backbone
from models.heads.config import LinearHeadConfig
from models.recipes.literature.blockwise import blocks_of
from models.recipes.literature.features import _voted
from models.registry import MODELS, ModelSpec
from tests.harness.conftest import MakePlan, RunPlan

FULL = ("tuning=full", "epochs=4")


def _blocks() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES._items, "pooled-blocks", Backbone("pooled-blocks", 8, _blocks, min_size=16))
    recipes: dict[str, tuple[str, dict[str, Any]]] = {
        "svm": ("features", {"classifier": "svm"}),
        "knn": ("features", {"classifier": "knn"}),
        "unknown": ("features", {"classifier": "tree"}),
        "blocks": ("blockwise", {}),
    }
    for name, (recipe, options) in recipes.items():
        spec = ModelSpec(name, "pooled-blocks", LinearHeadConfig(), recipe=recipe, options=options)
        monkeypatch.setitem(MODELS._items, name, spec)


@pytest.mark.parametrize("name", ["svm", "knn", "blocks"])
@pytest.mark.parametrize("overrides", [FULL, ()], ids=["full", "head"])
def test_a_stored_predictor_answers_as_its_fit_did(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    plan = small_plan(name, overrides)
    assert run_plan(plan).done == 1
    cell = FinishedCell.open(tmp_path / "run", plan.cells[0].key)
    stored = cell.stored.predictions()
    shares = np.stack([stored[f"p_{name}"].to_numpy() for name in cell.classes], axis=1)
    assert np.array_equal(cell.predictor.of_images(cell.images()), shares)
    assert np.abs(shares.sum(1) - 1).max() < 1e-6
    assert not (cell.folder / "parts").exists()
    assert hasattr(cell.predictor, "network") == (name == "blocks")


@pytest.mark.parametrize("name", ["svm", "blocks"])
def test_a_stopped_cell_goes_on_bit_for_bit(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(name, FULL)
    run_plan(plan, "whole")
    from models.recipes import gradient

    fits: list[str] = []
    plain = gradient.fit

    def stopped(context: Any) -> Any:
        fits.append(context.folder.name)
        if len(fits) == (3 if name == "blocks" else 1):
            raise gradient.Interrupted
        return plain(context)

    monkeypatch.setattr(gradient, "fit", stopped)
    with suppress(KeyboardInterrupt):
        run_plan(plan, "stopped")
    monkeypatch.setattr(gradient, "fit", plain)
    assert execute(plan, Run.create(tmp_path / "stopped"), Runtime(), []).done == 1
    whole, again = (
        FinishedCell.open(tmp_path / folder, plan.cells[0].key).stored.predictions() for folder in ("whole", "stopped")
    )
    assert whole.equals(again)


def test_clients_cannot_follow_these_recipes(small_plan: MakePlan) -> None:
    for name in ("svm", "blocks", "deepak-knn", "swati-vgg19"):
        with pytest.raises(UserError, match=rf"{name} is fitted by the recipe .* not under fedavg"):
            small_plan(name, regimes="fedavg")


def test_what_a_recipe_cannot_do_fails_the_cell_in_a_sentence(small_plan: MakePlan, run_plan: RunPlan) -> None:
    assert run_plan(small_plan("unknown")).failed == 1
    assert run_plan(small_plan("knn", ("refit=true",)), "refit").failed == 1


def test_vgg19s_blocks_are_five_of_convolutions_and_the_classifier() -> None:
    with torch.device("meta"):
        network = MODELS.get("swati-vgg19").build(3)
    weights = [sum(parameter.ndim > 1 for parameter in block) for block in blocks_of(network)]
    assert weights == [2, 2, 4, 4, 4, 3]


def test_each_stage_trains_one_block_more(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> None:
    plan = small_plan("blocks", FULL)
    run_plan(plan)
    history = FinishedCell.open(tmp_path / "run", plan.cells[0].key).history()
    assert [row["blocks_trained"] for row in history] == [1, 2, 3, 4]
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]


def test_votes_and_decisions_are_scikit_learns(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> None:
    """The stored tensors, read back, against scikit-learn's own classifiers fitted on the same features."""
    plan = small_plan("svm,knn", FULL)
    run_plan(plan)
    for planned in plan.cells:
        cell = FinishedCell.open(tmp_path / "run", planned.key)
        predictor = cell.predictor
        tensors = predictor._tensors
        images = {part: cell.images(part) for part in ("train", "test")}
        pooled = {part: predictor._pooled(predictor.prepare(stack)).detach() for part, stack in images.items()}
        train, test = (((values - tensors["mean"]) / tensors["std"]).numpy() for values in pooled.values())
        labels = cell.predictions("train").labels
        predicted = cell.predictions("test").probabilities.argmax(1)
        if planned.spec.model == "knn":
            count = int(tensors["neighbours"])
            theirs = KNeighborsClassifier(count, algorithm="brute").fit(train, labels).predict_proba(test)
            np.testing.assert_allclose(_voted(torch.from_numpy(test), tensors).numpy(), theirs, atol=1e-6)
        else:
            cost = cell.result["metrics"]["svm_c"]
            machines = [
                LinearSVC(C=cost, random_state=planned.spec.fit_seed % 2**31, dual=True, max_iter=5000).fit(
                    train, labels == number
                )
                for number in range(len(cell.classes))
            ]
            theirs = np.stack([machine.decision_function(test) for machine in machines], 1).argmax(1)
            assert np.array_equal(predicted, theirs)
