"""Planning: patterns, seeds, and what is settled before anything trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.core.errors import UnknownName, UserError
from bench.harness.plan import parse_seeds
from bench.harness.planning.contradictions import refuse_cell


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1", [0]), ("0,7", [0, 7]), ("7,", [7]), ("2, 2,5", [2, 5])]
)
def test_seeds_are_a_count_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", ",", "0", "1,two"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_cells_of_one_split_and_seed_stand_together(small_plan: Any) -> None:
    plan = small_plan("linear@tiny,deepmedix@tiny", seeds="2", datasets="phantom-*")
    order = [(cell.spec.dataset, cell.spec.seed, cell.spec.model) for cell in plan.cells]
    assert order == [
        (dataset, seed, model)
        for dataset in ("phantom-brain", "phantom-skin")
        for seed in (0, 1)
        for model in ("linear@tiny", "deepmedix@tiny")
    ]
    assert len({cell.key for cell in plan.cells}) == 8


def test_a_dataset_that_is_absent_is_an_error_only_when_named(small_plan: Any) -> None:
    plan = small_plan(datasets="all")
    assert list(plan.tables) == ["phantom-brain", "phantom-skin"]
    assert "br35h" in plan.absent
    with pytest.raises(UserError, match="dataset br35h is not on this machine"):
        small_plan(datasets="br35h")


def test_unknown_names_offer_near_ones(small_plan: Any) -> None:
    with pytest.raises(UnknownName, match="no model is called 'depmedix'; did you mean deepmedix"):
        small_plan("depmedix")
    with pytest.raises(UnknownName, match="no dataset is called 'phantom-brian'; did you mean phantom-brain"):
        small_plan(datasets="phantom-brian")
    with pytest.raises(UnknownName, match="no regime is called 'fedaverage'; did you mean fedavg"):
        small_plan(regimes="fedaverage")
    with pytest.raises(UserError, match="no split is called 'grouped2'"):
        small_plan(split="grouped2")


def test_a_backbone_gets_its_smallest_input_and_says_so(small_plan: Any) -> None:
    plan = small_plan("inception_v3,linear@tiny")
    sizes = {cell.spec.model: (cell.image_size, cell.size_note) for cell in plan.cells}
    assert sizes["linear@tiny"] == (32, "")
    assert sizes["inception_v3"][0] == 75
    assert "75 px images instead of 32 px" in sizes["inception_v3"][1]


def test_missing_weights_are_said_before_anything_trains(small_plan: Any) -> None:
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        small_plan("linear@tiny,deepmedix@tiny", overrides=("weights=nowhere.safetensors",))


def test_the_key_follows_what_the_result_depends_on(small_plan: Any) -> None:
    (plain,) = small_plan().cells
    (same,) = small_plan().cells
    assert plain.key == same.key
    for changed in (
        small_plan(overrides=("epochs=3",)),
        small_plan(overrides=("synthetic_images=61",)),
        small_plan("deepmedix@tiny"),
    ):
        assert changed.cells[0].key != plain.key


@pytest.mark.parametrize(
    ("regime", "overrides", "said"),
    [
        ("fedavg", ["federated.clients=500"], "500 clients need as many groups, and the training part has"),
        ("twin", ["federated.clients=500"], "500 clients need as many groups"),
        ("fedavg", ["federated.partition=shards", "federated.shards=90"], "90 shards for each of 5 clients"),
        ("fedavg", ["federated.local_steps=5", "federated.local_epochs=3"], "takes the place of whole epochs"),
        ("krum", ["federated.malicious=5"], "5 of 5 clients leaves none"),
        ("fedavg", ["federated.secure_aggregation=true", "federated.clients=1"], "asks for one client alone"),
        ("fedavg", ["federated.secure_aggregation=true", "federated.participation=0.2"], "asks for one client alone"),
        ("krum", ["federated.secure_aggregation=true"], "must see each client's update"),
        ("fedavg", ["federated.secure_aggregation=true", "federated.compression=int8"], "compression none"),
        ("krum", ["federated.privacy=central"], "adds noise to a mean, and krum takes none"),
        ("fedavg", ["federated.privacy=central"], "running statistics would leave the clients without noise"),
        ("fedavg", ["federated.privacy=local", "federated.clip_norm=nan"], "clip_norm"),
        ("fedavg", ["label_smoothing=0.1"], "means nothing under fedavg"),
        ("centralized", ["mix=cutmix"], "means nothing where the head alone is trained"),
        ("centralized", ["feature_views=3", "tuning=full"], "feature_views above 1"),
        ("centralized", ["batch_size=1000"], "batch_size = 1000 is more than the .. training images"),
        ("krum", ["federated.options.fedavgg.a=1"], "did you mean fedavg"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_before_a_cell_runs(
    small_plan: Any, regime: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        small_plan(regimes=regime, overrides=tuple(overrides))


def test_patterns_leave_out_what_contradicts_and_say_so(small_plan: Any) -> None:
    plan = small_plan(regimes="fed*", overrides=("federated.secure_aggregation=true",))
    assert {"fedavg", "fedprox"} <= {cell.spec.regime for cell in plan.cells}
    assert "fedmedian" not in {cell.spec.regime for cell in plan.cells}
    assert any(sentence.startswith("phantom-brain under fedmedian: ") for sentence in plan.left_out)
    with pytest.raises(UserError, match="nothing is left to run: phantom-brain under fed"):
        small_plan(regimes="fed*", overrides=("federated.clients=500",))


def test_a_batch_may_be_larger_than_a_clients_share(small_plan: Any) -> None:
    assert small_plan(regimes="fedavg", overrides=("batch_size=1000",)).cells


@pytest.mark.parametrize("regime", ["fedavg", "local-only", "twin"])
def test_a_partition_by_site_needs_sites(small_plan: Any, regime: str) -> None:
    (cell,) = (plan := small_plan(regimes=regime, overrides=("federated.partition=site",))).cells
    table = plan.tables["phantom-brain"]
    with pytest.raises(UserError, match="partition site needs a dataset that names its sites"):
        refuse_cell(cell.spec, replace(table, sites=np.full(len(table), "")))
