"""Rows over seeds, their intervals, and the tables drawn from them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.compare import ranking
from reports.load.source import load
from reports.tables import grid, markup, overview
from reports.tables import tidy as tables
from reports.tables.latex import latex
from reports.tables.published import paper_dataset, published_values, rows


@pytest.fixture(scope="module")
def drawn(full_run: Path) -> tuple[Any, list[grid.Row], list[ranking.Ranking]]:
    source = load(full_run)
    table = grid.rows(source.cells)
    return source, table, ranking.rank(source, table)


def test_every_planned_cell_is_one_row_with_its_status(full_run: Path, tmp_path: Path) -> None:
    source = load(full_run)
    paths = tables.write_tidy(source, grid.rows(source.cells), tmp_path)
    frame = pd.read_csv(paths[0])
    assert len(frame) == len(source.cells) == 62
    assert set(frame["status"]) == {"done", "failed", "missing"}
    assert frame.loc[frame["status"] == "failed", "problem"].item() == "RuntimeError: out of paper"
    assert len(pd.read_parquet(paths[1])) == 62
    done = frame[frame["status"] == "done"]
    assert (done["accuracy_low"] <= done["accuracy"]).all()
    assert (done["precision"] <= 1).all()


def test_a_failed_cell_is_counted_and_not_in_the_mean(drawn: Any) -> None:
    row = next(row for row in drawn[1] if row.model == "densenet121")
    assert (row.count, row.metric("accuracy")) == ("0 of 2", None)
    assert row.problem == "failed: RuntimeError: out of paper; missing: not run yet"


def test_interval_over_three_seeds_is_students(drawn: Any) -> None:
    row = next(row for row in drawn[1] if row.condition.dataset == "brain-kaggle")
    values = np.array([cell.result["metrics"]["accuracy"] for cell in row.done])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    found = row.metric("accuracy")
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    if found.over == "seeds":
        assert (found.low, found.high) == pytest.approx((low, min(high, 1.0)))
    else:
        assert found.high - found.low >= high - low


def test_interval_over_two_seeds_is_the_mean_of_their_own(drawn: Any) -> None:
    row = next(row for row in drawn[1] if row.condition.dataset == "br35h" and row.model == "deepmedix")
    pairs = [cell.result["intervals"]["accuracy"] for cell in row.done]
    found = row.metric("accuracy")
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(np.mean(pairs, axis=0)))
    assert found.over == "images"


def test_costs_have_no_interval(drawn: Any) -> None:
    found = drawn[1][0].metric("macs_m")
    assert found is not None
    assert np.isnan(found.low)


def test_folds_and_seeds_are_one_row(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> None:
    run = new_run()
    for fold in (1, 2, 3):
        run.done(spec("deepmedix", "br35h", fold, split=f"official:{fold}"))
    table = grid.rows(load(run.path).cells)
    assert [(row.condition.split, len(row.cells)) for row in table] == [("official", 3)]


def test_protocols_that_differ_are_told_apart_by_what_differs(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    for size in (96, 224):
        one = spec("deepmedix", "br35h", 0)
        one["protocol"]["image_size"] = size
        run.done(one)
    assert [row.condition.variant for row in grid.rows(load(run.path).cells)] == ["image_size=96", "image_size=224"]


def test_badges_of_synthetic_incomplete_and_leaking_data(drawn: Any) -> None:
    found = {row.condition.dataset: row.badges for row in drawn[1]}
    assert found["phantom-skin"] == ("synthetic",)
    assert found["isic2019"] == ("incomplete: 10,015 of 25,331 images",)
    assert found["brain-kaggle"][0].startswith("leaks")
    assert found["br35h"] == ()


def test_bold_is_only_what_the_test_cannot_tell_from_the_best(drawn: Any) -> None:
    found = next(r for r in drawn[2] if r.condition.dataset == "figshare-brain")
    assert found.best is not None
    beaten = {entry.row.model for entry in found.beaten}
    assert found.best.model in found.marked
    assert "squeezenet1_1" in beaten
    assert not beaten & found.marked
    lonely = next(r for r in drawn[2] if r.condition.dataset == "brain-kaggle")
    assert lonely.marked == set()
    assert lonely.verdict == "nothing to compare it with"


def test_markdown_and_latex_have_every_model_the_papers_value_and_failures(drawn: Any) -> None:
    found = overview.tables(drawn[0], drawn[2], drawn[1])
    text = "\n".join(markup.markdown(table) for table in found)
    assert "99.04" in text
    assert "densenet121" in text
    assert "RuntimeError: out of paper" in text
    assert "phantom-skin (synthetic)" in text
    code = "\n".join(latex(table) for table in found)
    assert r"squeezenet1\_1" in code
    assert code.count(r"\begin{tabular}") == code.count(r"\end{tabular}") == len(found)


def test_markup_of_hostile_names() -> None:
    table = markup.grid("x", "a|b <i>", ["h"], [[r"50% & $x_1$ {y} \cmd #2 ~^"], ["<b>[l](http://e)|*s*"]])
    code, text = latex(table), markup.markdown(table)
    assert r"50\% \& \$x\_1\$ \{y\} \textbackslash{}cmd \#2 \textasciitilde{}\textasciicircum{}" in code
    assert r"\<b\>" in text
    assert "](http" not in text
    assert text.count("\n| ") == 4


def test_published_values() -> None:
    assert len(rows()) == 28
    assert published_values("deepmedix", "brain-kaggle")["roc_auc_hard"] == 99.36
    assert published_values("deepmedix-gmp", "br35h")["accuracy"] == 99.17
    assert published_values("resnet50", "br35h") == {}
    assert paper_dataset("ham10000-mel-balanced") == "HAM-10000"


def test_summary_holds_the_papers_value_beside_ours_never_in_it(drawn: Any, tmp_path: Path) -> None:
    paths = tables.write_tidy(drawn[0], drawn[1], tmp_path)
    frame = pd.read_csv(io.StringIO(paths[2].read_text()))
    one = frame[(frame["model"] == "deepmedix") & (frame["dataset"] == "figshare-brain")].iloc[0]
    assert one["published_accuracy"] == pytest.approx(0.9904)
    assert one["accuracy"] != one["published_accuracy"]


def rows_of(cells: list[tuple[dict[str, Any], str]], new_run: Callable[[], Any]) -> list[grid.Row]:
    """The rows of finished cells with these specs and dataset fingerprints."""
    run = new_run()
    first = run.done(cells[0][0] | {"seed": 99})
    for spec, fingerprint in cells:
        key = run.like(first, spec)
        path = run.path / "cells" / key / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"data": result["data"] | {"fingerprint": fingerprint}}))
    run.entries = run.entries[1:]
    run.write_plan()
    return grid.rows(load(run.path).cells)


def test_cells_whose_weights_are_files_of_one_name_are_not_averaged(new_run: Any, spec: Any) -> None:
    specs = [spec("deepmedix", "br35h", 0) for _ in range(2)]
    for each, folder in zip(specs, ("/one", "/two"), strict=True):
        each["protocol"] |= {"weights": f"{folder}/best.safetensors"}
    rows = rows_of([(each, "f") for each in specs], new_run)
    assert [row.condition.variant for row in rows] == [
        "weights=/one/best.safetensors",
        "weights=/two/best.safetensors",
    ]


def test_a_field_that_an_older_run_did_not_know_stands_at_its_default(new_run: Any, spec: Any) -> None:
    old, same, other = (spec("deepmedix", "br35h", seed) for seed in (0, 1, 2))
    same["protocol"] |= {"refit": False}
    other["protocol"] |= {"refit": True}
    rows = rows_of([(each, "f") for each in (old, same, other)], new_run)
    assert [(row.condition.variant, row.count) for row in rows] == [("refit=False", "2"), ("refit=True", "1")]


def test_cells_of_two_states_of_a_dataset_are_not_averaged(new_run: Any, spec: Any) -> None:
    before, after = spec("deepmedix", "br35h", 0), spec("deepmedix", "br35h", 1)
    rows = rows_of([(before, "aaaaaaaaaa"), (after, "bbbbbbbbbb")], new_run)
    assert [row.condition.variant for row in rows] == ["data=aaaaaaaa", "data=bbbbbbbb"]


def test_two_cells_of_one_seed_are_not_averaged(new_run: Any, spec: Any) -> None:
    once = spec("deepmedix", "br35h", 0)
    rows = rows_of([(once, "f"), (once | {"protocol": once["protocol"] | {"refit": False}}, "f")], new_run)
    assert [row.condition.variant for row in rows] == ["", "model or weights changed (2)"]
