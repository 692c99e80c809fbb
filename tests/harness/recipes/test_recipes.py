"""Recipes of a plugin file: run, stopped and resumed, reported, asked again, and refused where they cannot go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.core.plugins import load_plugin
from bench.core.registry import Registry
from bench.executors.run import execute
from bench.harness.cell import run_cell
from bench.harness.finished import FinishedCell
from bench.harness.inputs import CellJob
from bench.harness.plan import Plan
from bench.store.run import Run
from models.heads.config import LinearHeadConfig
from models.predictor import PREDICTORS
from models.recipes.callbacks import Interrupted
from models.recipes.registry import RECIPES
from models.registry import MODELS, ModelSpec
from reports.write import report
from tests.harness.conftest import MakePlan, RunPlan

PAGE = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
EXAMPLES = dict(re.findall(r"```python\n# example: ([\w-]+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path) -> Iterator[None]:
    """The two recipes as plugin files, with models on the tiny backbone; forgotten afterwards."""
    registries: list[Registry[Any]] = [MODELS, RECIPES, PREDICTORS]
    before = [dict(registry._items) for registry in registries]
    for name, options in (("gradual", {"stages": 3}), ("neighbours", {"k": 3})):
        plugin = tmp_path / f"{name}.py"
        plugin.write_text(EXAMPLES[name])
        load_plugin(plugin)
        spec = ModelSpec(f"{name}-tiny", "tiny", LinearHeadConfig(), recipe=name, options=options)
        MODELS.register(spec.name, spec)
    yield
    for registry, items in zip(registries, before, strict=True):
        registry._items.clear()
        registry._items.update(items)


@pytest.mark.parametrize(("model", "tuning"), [("gradual-tiny", "full"), ("neighbours-tiny", "head")])
def test_it_runs_is_reported_and_answers_again(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, model: str, tuning: str
) -> None:
    plan = small_plan(model, (f"tuning={tuning}",))
    assert run_plan(plan).done == 1
    drawn = report(tmp_path / "run")
    assert drawn["problems"] == []
    assert model in Path(drawn["files"]["html"][0]).read_text()
    cell = FinishedCell.open(tmp_path / "run", plan.cells[0].key)
    stored = cell.stored.predictions()
    shares = np.stack([stored[f"p_{name}"].to_numpy() for name in cell.classes], axis=1)
    assert np.array_equal(cell.predictor.of_images(cell.images()), shares)
    rows = cell.history()
    assert [row["epoch"] for row in rows] == list(range(len(rows)))
    assert [row.get("stage") for row in rows] == ([0, 0, 1, 1, 2, 2] if model == "gradual-tiny" else [None])
    assert {file.name for file in cell.folder.iterdir()} - {".lock"} == {
        "cell.json", "history.parquet", "predictions.parquet", "predictor", "result.json"
    }  # fmt: skip


def test_neighbours_are_those_of_scikit_learn(small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    run_plan(small_plan("neighbours-tiny"))
    cell = FinishedCell.open(tmp_path / "run", "neighbours-tiny*")
    backbone = cell.predictor.network.backbone  # type: ignore[attr-defined]
    features = [
        backbone(cell.prepare(cell.images(part))).detach().numpy().mean((2, 3)) for part in ("train", "test")  # type: ignore[arg-type]
    ]  # fmt: skip
    voters = KNeighborsClassifier(3).fit(features[0], cell.predictions("train").labels)
    np.testing.assert_allclose(voters.predict_proba(features[1]), cell.predictions().probabilities, atol=1e-6)


def test_a_stopped_gradual_fit_goes_on_in_its_stage(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("gradual-tiny", ("tuning=full",))
    whole, resumed = Run.create(tmp_path / "whole"), Run.create(tmp_path / "resumed")
    trained = _run(plan, whole)
    with pytest.raises(Interrupted):
        _run(plan, resumed, stop_after=trained // 2)
    assert (resumed.folder(plan.cells[0].key) / "state" / "stage-0" / "last.ckpt").is_file()
    assert _run(plan, resumed) < trained
    weights = [
        (run.folder(plan.cells[0].key) / "predictor" / "weights.safetensors").read_bytes() for run in (whole, resumed)
    ]
    assert weights[0] == weights[1]


def _run(plan: Plan, run: Run, stop_after: int = 10**9) -> int:
    """Run the plan's cell; how many batches were trained."""
    batches: list[dict[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        batches.extend([event] * (event["event"] == "batch"))

    (cell,) = plan.cells
    run_cell(
        CellJob(
            cell, plan.tables[cell.spec.dataset], run.folder(cell.key), Runtime(), hear,
            lambda: len(batches) >= stop_after,
        )
    )  # fmt: skip
    return len(batches)


def test_a_pair_that_patterns_bring_together_is_left_out_and_one_named_is_refused(small_plan: MakePlan) -> None:
    plan = small_plan("linear@tiny,neighbours*", regimes="centralized,fed*")
    assert {cell.spec.regime for cell in plan.cells if cell.spec.model == "neighbours-tiny"} == {"centralized"}
    assert {cell.spec.regime for cell in plan.cells if cell.spec.model == "linear@tiny"} > {"fedavg", "fedbn"}
    assert any(sentence.startswith("neighbours-tiny is fitted by the recipe neighbours") for sentence in plan.left_out)
    # The default regimes were not named by anybody.
    plan = small_plan("neighbours-tiny", regimes="centralized,fedavg")
    assert [cell.spec.regime for cell in plan.cells] == ["centralized"]
    refused = r"neighbours-tiny is fitted by the recipe neighbours, which clients cannot follow: not under fedprox"
    with pytest.raises(UserError, match=refused):
        small_plan("neighbours-tiny,linear@tiny", regimes="centralized,fedprox")
    with pytest.raises(UserError, match="not under fed"):
        small_plan("neighbours*", regimes="fed*")


def test_a_recipe_is_part_of_the_key_and_the_default_one_is_not() -> None:
    plain = ModelSpec("one", "tiny", LinearHeadConfig())
    assert set(plain.identity()) == {"name", "backbone", "head"}
    other = ModelSpec("one", "tiny", LinearHeadConfig(), recipe="neighbours", options={"k": 3})
    assert other.identity() == {**plain.identity(), "recipe": "neighbours", "options": {"k": 3}}
    json.dumps(other.identity())
    hash(other)


def test_an_unknown_recipe_is_named_at_planning(small_plan: MakePlan) -> None:
    MODELS.register("lost", ModelSpec("lost", "tiny", LinearHeadConfig(), recipe="gradul"))
    with pytest.raises(UserError, match=r"no recipe is called 'gradul'; did you mean gradual"):
        small_plan("lost")


def test_the_wrong_tuning_is_a_failed_row(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("neighbours-tiny", ("tuning=full",))
    assert execute(plan, Run.create(tmp_path / "run"), Runtime(), []).failed == 1
    (cell,) = Run.open(tmp_path / "run").cells()
    assert cell.problem.endswith("neighbours needs a frozen backbone; use --set tuning=head")
