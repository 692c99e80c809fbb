"""The genetic search with its ensemble, and the fit over folds that leaks as it was published."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.config import Runtime, load_protocol
from bench.core.errors import UserError
from bench.executors.run import execute
from bench.harness.finished import FinishedCell
from bench.harness.inputs import CellJob
from bench.harness.listing import FOUND, count_rows, model_card
from bench.harness.trial import run_trial
from bench.store.run import Run
from models.backbones.registry import BACKBONES, Backbone
from models.heads.config import LinearHeadConfig
from models.literature.btc_fcnn import backbone
from models.recipes import gradient
from models.recipes.callbacks import STATE
from models.recipes.literature import folded, genetic
from models.recipes.literature.genetic import RECORD
from models.registry import MODELS, ModelSpec
from tests.harness.conftest import MakePlan, RunPlan

BUDGET = {"population": 2, "generations": 2, "share": 2, "members": 2}
CAUTION = "test images were trained on"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = replace(MODELS.get("anaraki-gacnn"), name="searched", options=BUDGET)
    leaking = replace(MODELS.get("btc-fcnn-folded"), name="leaking", options={"folds": 3}, caution=CAUTION)
    silent = replace(leaking, name="silent", caution="")
    for spec in (searched, leaking, silent):
        monkeypatch.setitem(MODELS._items, spec.name, spec)


def _shares(cell: FinishedCell) -> np.ndarray:
    return np.asarray(cell.predictions().probabilities)


def _parameters(head: Any, classes: int) -> int:
    """Of one member, by hand."""
    count, channels = 0, 3
    for filters in head.filters:
        count += filters * (channels * head.kernel**2 + 1)
        channels = filters
    return count + head.width * (channels + 1) + classes * (head.width + 1)


@pytest.mark.parametrize("overrides", [("tuning=full",), ()], ids=["full", "head"])
def test_the_search_leaves_a_mean_of_members_and_its_own_cost(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    plan = small_plan("searched", overrides)
    assert run_plan(plan).done == 1
    cell = FinishedCell.open(tmp_path / "run", plan.cells[0].key)
    predictor: Any = cell.predictor
    shares = _shares(cell)
    assert np.array_equal(predictor.of_images(cell.images()), shares)
    given = predictor.inputs(predictor.prepare(cell.images()))
    with torch.no_grad():
        members = [one(given.float()).softmax(1).numpy() for one in predictor.network.head.members]
    assert len(members) == BUDGET["members"]
    assert not np.allclose(members[0], members[1])
    np.testing.assert_allclose(np.mean(members, axis=0), shares, atol=1e-6)
    cost = cell.result["cost"]
    assert round(cost["params_m"] * 1e6) == BUDGET["members"] * _parameters(predictor.head, len(cell.classes))
    tried = {row["network"] for row in cell.history() if row["network"] is not None}
    assert 2 <= len(tried) <= 4
    assert cell.result["metrics"]["searched_networks"] == len(tried)


@pytest.mark.parametrize("in_search", [True, False], ids=["in the search", "in the second member"])
def test_a_stopped_search_goes_on_bit_for_bit(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, in_search: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan("searched")
    run_plan(plan, "whole")
    tried = FinishedCell.open(tmp_path / "whole", plan.cells[0].key).result["metrics"]["searched_networks"]
    stop_at = 2 if in_search else int(tried) + BUDGET["members"]
    _stop_at_fit(monkeypatch, stop_at, lambda: run_plan(plan, "stopped"))
    record = tmp_path / "stopped" / "cells" / plan.cells[0].key / STATE / RECORD
    assert (len(json.loads(record.read_text())) == 4) != in_search
    assert execute(plan, Run.create(tmp_path / "stopped"), Runtime(), []).done == 1
    _assert_equal(tmp_path, plan.cells[0].key)


def test_a_record_of_another_search_is_set_aside(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan("searched")
    run_plan(plan, "whole")
    _stop_at_fit(monkeypatch, 2, lambda: run_plan(plan, "stopped"))
    record = tmp_path / "stopped" / "cells" / plan.cells[0].key / STATE / RECORD
    scored = json.loads(record.read_text())
    scored[0]["genome"]["head"]["width"] += 1
    record.write_text(json.dumps(scored))
    assert execute(plan, Run.create(tmp_path / "stopped"), Runtime(), []).done == 1
    _assert_equal(tmp_path, plan.cells[0].key)
    cell = FinishedCell.open(tmp_path / "stopped", plan.cells[0].key)
    assert any("of another search" in note for note in cell.result["notes"])


def test_a_network_that_diverges_scores_nothing(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gradient.fit
    fits: list[str] = []

    def diverging(context: Any) -> Any:
        outcome = plain(context)
        fits.append(context.folder.name)
        if len(fits) > 1:
            return outcome
        rows = [{**row, "val_loss": float("nan"), "val_accuracy": 1.0} for row in outcome.history]
        return replace(outcome, history=rows)

    monkeypatch.setattr(gradient, "fit", diverging)
    searched: list[Any] = []
    search = genetic.search
    monkeypatch.setattr(genetic, "search", lambda context: searched.append(search(context)) or searched[-1])
    plan = small_plan("searched")
    assert run_plan(plan).done == 1
    history = FinishedCell.open(tmp_path / "run", plan.cells[0].key).history()
    first = [row for row in history if row["network"] == 0]
    assert [row["val_loss"] for row in first] == [None] * len(first)
    ((genome, scored),) = searched
    assert scored[0]["score"] == 0.0
    assert genetic._plain(genome) != scored[0]["genome"]


def _stop_at_fit(monkeypatch: pytest.MonkeyPatch, number: int, run: Callable[[], Any]) -> None:
    fits: list[Any] = []
    plain = gradient.fit

    def stopped(context: Any) -> Any:
        fits.append(context)
        if len(fits) == number:
            raise gradient.Interrupted
        return plain(context)

    monkeypatch.setattr(gradient, "fit", stopped)
    with suppress(KeyboardInterrupt):
        run()
    monkeypatch.setattr(gradient, "fit", plain)
    assert len(fits) == number


def _assert_equal(folder: Path, key: str) -> None:
    whole, again = (FinishedCell.open(folder / name, key) for name in ("whole", "stopped"))
    assert whole.stored.predictions().equals(again.stored.predictions())
    assert whole.result["cost"] == again.result["cost"]


def test_before_the_fit_the_cost_is_found_by_the_search() -> None:
    (row,) = count_rows("anaraki-gacnn", 3, load_protocol("demo"))
    assert row["note"] == FOUND
    assert "params_m" not in row
    assert model_card("anaraki-gacnn", 3)["cost"] == FOUND


@pytest.mark.parametrize("name", ["anaraki-gacnn", "btc-fcnn-folded"])
def test_clients_cannot_follow(small_plan: MakePlan, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} is fitted by the recipe .* not under fedavg"):
        small_plan(name, regimes="fedavg")


def test_the_earlier_folds_train_on_the_test_images_and_hold_whole_groups_out(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    plain = gradient.fit
    monkeypatch.setattr(gradient, "fit", lambda context: heard.append(context.data) or plain(context))
    plan = small_plan("leaking")
    assert run_plan(plan).done == 1
    cell = FinishedCell.open(tmp_path / "run", plan.cells[0].key)
    test = set(cell.predictions().ids.tolist())
    own = heard[-1]
    assert len(heard) == 3
    assert not test & {*own.train.ids.tolist(), *own.val.ids.tolist()}
    held = [set(data.val.ids.tolist()) for data in heard[:2]]
    assert not held[0] & held[1]
    assert held[0] | held[1] == {*own.train.ids.tolist(), *own.val.ids.tolist()}
    for data in heard[:2]:
        assert test <= set(data.train.ids.tolist())
        assert not set(data.train.groups.tolist()) & set(data.val.groups.tolist())
    assert cell.result["data"]["cautions"] == [CAUTION]
    assert [row["fold"] for row in cell.history()] == [1, 2, 3]
    assert any("weights carried through 3 folds" in note for note in cell.result["notes"])


def test_a_stopped_fit_over_folds_goes_on_bit_for_bit(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan("leaking", ("tuning=full",))
    run_plan(plan, "whole")
    _stop_at_fit(monkeypatch, 3, lambda: run_plan(plan, "stopped"))
    assert execute(plan, Run.create(tmp_path / "stopped"), Runtime(), []).done == 1
    _assert_equal(tmp_path, plan.cells[0].key)


def test_the_leak_is_for_who_names_it(small_plan: MakePlan) -> None:
    assert "btc-fcnn-folded" not in MODELS.match("all")
    assert "btc-fcnn-folded" not in MODELS.match("table:2")
    assert MODELS.match("btc-fcnn-folded") == ["btc-fcnn-folded"]
    with pytest.raises(UserError, match=r"silent is fitted on test images \(folded\), so its ModelSpec must say"):
        small_plan("silent")


def test_a_trial_of_a_sweep_is_never_handed_the_test_images(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("leaking")
    job = CellJob(plan.cells[0], plan.tables["phantom-brain"], tmp_path / "trial", Runtime(timing="off"))
    with pytest.raises(UserError, match="leaking learns from test images, which a trial of a sweep is never handed"):
        run_trial(job, timed=False)


def test_a_searched_trial_has_the_found_networks_cost(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("searched")
    job = CellJob(plan.cells[0], plan.tables["phantom-brain"], tmp_path / "trial", Runtime(timing="off"))
    with pytest.raises(UserError, match="searched has no batch times before its fit"):
        run_trial(job, timed=True)
    columns = run_trial(job, timed=False)
    assert (columns["params_m"] or 0) > 0
    assert columns == run_trial(job, timed=False)


def test_only_a_leaking_recipe_is_handed_the_test_part(
    small_plan: MakePlan, run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    plain = gradient.fit
    monkeypatch.setattr(gradient, "fit", lambda context: heard.append(context.test) or plain(context))
    monkeypatch.setitem(BACKBONES._items, "plain-btc", Backbone("plain-btc", 128, backbone))
    monkeypatch.setitem(
        MODELS._items, "plain-btc", ModelSpec("plain-btc", "plain-btc", LinearHeadConfig(), caution="a caution alone")
    )
    run_plan(small_plan("linear@tiny,plain-btc,searched"))
    assert heard
    assert all(test is None for test in heard)


def test_folds_need_groups(small_plan: MakePlan, run_plan: RunPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    many = replace(MODELS.get("leaking"), options={"folds": 500})
    monkeypatch.setitem(MODELS._items, "leaking", many)
    heard: list[UserError] = []
    plain = folded.fit

    def fit(context: Any) -> Any:
        try:
            return plain(context)
        except UserError as error:
            heard.append(error)
            raise

    monkeypatch.setattr(folded, "fit", fit)
    assert run_plan(small_plan("leaking")).failed == 1
    assert "500 folds need 499 groups beside the test set" in str(heard[0])
