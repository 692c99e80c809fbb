"""Ablation, the paper's tables, comparison of two models, datasets together, federated gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.measure.statistics.paired import accuracy_difference, holm
from reports.compare import ablation, datasets, federated, versus
from reports.html import partition
from reports.load.source import Source, load
from reports.tables import grid, paper
from reports.write import compare


@pytest.fixture(scope="module")
def source(full_run: Path) -> Source:
    return load(full_run)


@pytest.fixture(scope="module")
def table(source: Source) -> list[grid.Row]:
    return grid.rows(source.cells)


@pytest.fixture(scope="module")
def study(source: Source, table: list[grid.Row]) -> ablation.Ablation:
    return next(found for found in ablation.ablations(source, table) if found.effects)


def test_ablation_has_every_variant_on_every_dataset_and_pooled(study: ablation.Ablation) -> None:
    effects = study.of("accuracy")
    assert len(effects) == 8 * 3
    assert {effect.dataset for effect in effects} == {"figshare-brain", "br35h", ablation.POOLED}


def test_ablation_effect_equals_the_statistic_on_hand_paired_images(study: ablation.Ablation, source: Source) -> None:
    effect = next(e for e in study.of("accuracy") if e.variant == "deepmedix-gmp" and e.dataset == "br35h")
    right, groups = {}, []
    for model in ("deepmedix-gmp", "deepmedix"):
        cells = [c for c in source.done if c.spec["model"] == model and c.spec["dataset"] == "br35h"]
        found = [source.predictions(c) for c in sorted(cells, key=lambda c: c.spec["seed"])]
        right[model] = np.concatenate([f.right for f in found if f is not None])
        groups = np.concatenate([f.groups for f in found if f is not None])
    expected = accuracy_difference(right["deepmedix-gmp"], right["deepmedix"], groups)
    assert effect.difference.value == pytest.approx(expected.value)
    assert effect.difference.p == pytest.approx(expected.p)
    assert effect.published == pytest.approx(99.17 - 99.34)


def test_ablation_p_values_are_adjusted_over_the_whole_table(study: ablation.Ablation) -> None:
    effects = study.of("roc_auc")
    assert [e.adjusted for e in effects] == pytest.approx(holm([e.difference.p for e in effects]))


def test_pooled_effect_is_the_plain_mean_over_datasets(study: ablation.Ablation) -> None:
    mine = [e for e in study.of("accuracy") if e.variant == "deepmedix-wide"]
    pooled = next(e for e in mine if e.dataset == ablation.POOLED)
    assert pooled.difference.value == pytest.approx(
        np.mean([e.difference.value for e in mine if e.dataset != ablation.POOLED])
    )


def test_a_variant_that_failed_is_named(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> None:
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    run.done(spec("deepmedix-wide", "br35h", 0))
    run.failed(spec("deepmedix-gmp", "br35h", 0), "RuntimeError: pool")
    found = load(run.path)
    study = ablation.ablations(found, grid.rows(found.cells))[0]
    assert study.problems == ("deepmedix-gmp on br35h: failed: RuntimeError: pool",)
    assert {e.variant for e in study.effects} == {"deepmedix-wide"}


def test_paper_tables_have_three_columns_a_metric_a_reading_and_what_was_not_run(table: list[grid.Row]) -> None:
    one, two, three, four, efficiency = paper.paper_tables(table)
    assert len(one.head) == 2 + 5 * 3 + 1
    brain = next(line for line in one.body if line[1].under.startswith("brain-kaggle"))
    assert "split grouped, centralized, tuning head, weights imagenet, normalization weights, 96 px" in brain[0].under
    assert "[leaks" in brain[1].under
    assert any(line[0].under == "not run" for line in one.body)
    assert len(two.body) == 7
    assert len(three.body) == 7
    assert [line[0].text for line in four.body].count("Model-1") == 4
    assert efficiency.body[0][1].text == "0.613"
    measured = next(r for r in table if r.condition.dataset == "br35h" and r.model == "deepmedix").metric("recall")
    assert measured is not None
    line = next(line for line in one.body if line[1].under.startswith("br35h"))
    assert line[7].text == f"{100 * measured.mean - 99.34:+.1f}".replace("-", "−")


def test_tables_2_and_3_give_each_publications_own_value_its_protocol_and_the_doubts(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    for model in ("deepak-knn", "deepak-svm", "bmri-net"):
        run.done(spec(model, "br35h" if model == "bmri-net" else "brain-kaggle", 0))
    _, two, three, *_ = paper.paper_tables(grid.rows(load(run.path).cells))
    assert two.head[2] == "Its own publication"
    assert two.aligned == "lll" + "r" * (len(two.head) - 3)
    lines = [line for line in two.body if line[0].text.startswith("GoogLeNet")]
    assert [line[0].under.partition(":")[0] for line in lines] == ["deepak-svm", "deepak-knn"]
    assert [line[2].text for line in lines] == ["97.80 on figshare", "98.00 on figshare"]
    assert [line[3].text for line in lines] == ["97.10", "97.10"]
    assert all("by patient" in line[2].under for line in lines)
    bmri = next(line for line in three.body if line[0].text == "BMRI-Net")
    assert (bmri[2].text, bmri[2].under) == ("99.00 on Br35H", "hold-out by image, one network")
    assert any("printed 97.10 is none of them" in note for note in two.notes)
    assert any("test images were trained on" in note for note in two.notes)
    assert any("prints “Random”" in note for note in three.notes)


def test_hard_auc_stands_beside_the_published_one_and_the_real_one_at_the_end(table: list[grid.Row]) -> None:
    one = paper.paper_tables(table)[0]
    place = one.head.index("ROC-AUC (hard), paper")
    row = next(r for r in table if r.condition.dataset == "br35h" and r.model == "deepmedix")
    line = next(line for line in one.body if line[1].under.startswith("br35h"))
    hard, real = row.metric("roc_auc_hard"), row.metric("roc_auc")
    assert hard is not None
    assert real is not None
    assert line[place].text == "99.34"
    assert line[place + 1].text == f"{100 * hard.mean:.1f}"
    assert line[-1].text == f"{100 * real.mean:.1f}"
    assert any("hard decisions" in note for note in one.notes)


def test_compare_tells_what_was_tested_and_lists_discordant_images(full_run: Path, tmp_path: Path) -> None:
    outcome = compare(full_run, "deepmedix", "squeezenet1_1", tmp_path)
    entry = next(e for e in outcome["conditions"] if e["condition"].startswith("br35h"))
    accuracy = entry["columns"]["accuracy"]
    assert accuracy["value"] == pytest.approx(accuracy["first"] - accuracy["second"])
    assert accuracy["p"] < 0.001
    assert entry["columns"]["roc_auc"]["method"].startswith("DeLong")
    tests = entry["mcnemar"]
    assert len(tests) == 2
    assert sum(t["only_a"] - t["only_b"] for t in tests) / entry["images"] == pytest.approx(accuracy["value"])
    image = entry["discordant"][0]
    assert (image["first"] == image["label"]) != (image["second"] == image["label"])
    assert "Only squeezenet1_1 is right" in Path(outcome["page"]).read_text()


def test_compare_shows_pictures_where_the_cache_has_them(full_run: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench.core.paths import cache

    source = load(full_run)
    cell = next(c for c in source.done if c.spec["dataset"] == "br35h")
    folder = cache() / "images" / f"{(cell.result or {})['data']['fingerprint']}-96"
    folder.mkdir(parents=True)
    ids = [f"br35h-{index:05d}" for index in range(600)]
    pq.write_table(pa.table({"ids": ids}), folder / "index.parquet")
    np.zeros((600, 96, 96, 3), np.uint8).tofile(folder / "pixels-v1.u8")
    page = Path(compare(full_run, "deepmedix", "squeezenet1_1", tmp_path)["page"]).read_text()
    assert 'src="data:image/jpeg;base64,' in page
    for rows in ({"ids": ids[:-1]}, {"ids": list(range(600))}, {"names": ids}):
        pq.write_table(pa.table(rows), folder / "index.parquet")
        assert (
            "data:image/jpeg" not in Path(compare(full_run, "deepmedix", "squeezenet1_1", tmp_path)["page"]).read_text()
        )
    (folder / "index.parquet").write_text("no table")
    assert "data:image/jpeg" not in Path(compare(full_run, "deepmedix", "squeezenet1_1", tmp_path)["page"]).read_text()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("deepmedex", "resnet18", "did you mean deepmedix"),
        ("resnet18", "resnet18", "two different models"),
    ],
)
def test_compare_refuses_what_it_cannot(full_run: Path, first: str, second: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(full_run, first, second)


def test_models_that_never_met_are_refused(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> None:
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    run.done(spec("resnet18", "isic2019", 0))
    with pytest.raises(UserError, match="never run under the same condition"):
        versus.compare(run.path, "deepmedix", "resnet18")


def test_different_test_images_are_not_compared(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], predictions: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    run.done(spec("deepmedix", "br35h", 0))
    other = predictions("resnet18", "br35h", 0)
    run.done(spec("resnet18", "br35h", 0), {**other, "image_id": [f"x{name}" for name in other["image_id"]]})
    found = versus.compare(run.path, "deepmedix", "resnet18")
    assert found.entries[0].problem == "test images differ (seed 0)"


def test_datasets_together(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], fill_grid: Callable[..., Any]
) -> None:
    run = fill_grid(
        new_run(), ["deepmedix", "resnet18", "squeezenet1_1"], ["br35h", "isic2019", "figshare-brain"], seeds=1
    )
    table = grid.rows(load(run.path).cells)
    [(name, found)] = datasets.rankings_across(table)
    assert name == "grouped · centralized"
    assert found.datasets == 3
    assert sum(found.ranks) == pytest.approx(6)
    assert datasets.rankings_across([row for row in table if row.model != "resnet18"]) == []


def test_federated_rows_find_their_centralized_twin(source: Source, table: list[grid.Row]) -> None:
    found = federated.gaps(source, table)
    assert {gap.row.condition.regime for gap in found} == {"fedavg"}
    assert all(gap.twin is not None and gap.twin.model == gap.row.model for gap in found)
    gap = found[0]
    ours, theirs = gap.row.metric("accuracy"), gap.twin.metric("accuracy") if gap.twin else None
    assert gap.difference is not None
    assert ours is not None
    assert theirs is not None
    assert gap.difference.value == pytest.approx(ours.mean - theirs.mean)
    drawn = federated.gap_table(found)
    assert drawn is not None
    assert "Sent up MB" in drawn.head
    assert federated.gap_table([]) is None


def test_a_partition_is_drawn_once_and_a_damaged_one_is_left_out(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    about = {"partition": "iid", "clients": ["a", "b<c>"], "train": [[3, 1], [0, 4]], "val": [[1, 0], [0, 1]]}
    for seed, damaged in ((0, False), (1, True)):
        run.done(spec("deepmedix", "br35h", seed, regime="fedavg"))
        newest = max(run.path.glob("cells/*"), key=lambda folder: folder.stat().st_ctime_ns)
        (newest / "partition.json").write_text("{" if damaged else json.dumps(about))
    found = partition.partitions(grid.rows(load(run.path).cells))
    assert len(found) == 1
    assert [[cell.text for cell in row] for row in found[0].table.body] == [
        ["a", "3", "1", "4"],
        ["b<c>", "0", "4", "4"],
    ]
    assert found[0].entry["rows"] == [("a", (3, 1)), ("b<c>", (0, 4))]
