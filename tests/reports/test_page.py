"""The HTML page as text: whole, self-contained, escaped, small and quick."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.figures.curves import roc_and_pr
from reports.html.page import script_json
from reports.html.payload import cell_entry
from reports.load.source import load
from reports.write import report

HOSTILE = "<img src=x onerror=alert(1)>&\"'</script>"


@pytest.fixture(scope="module")
def page(full_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return Path(report(full_run, ("html",), tmp_path_factory.mktemp("page"))["files"]["html"][0]).read_text()


def payload_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_nothing_is_fetched(page: str) -> None:
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_summary_comes_first_and_says_what_failed(page: str) -> None:
    assert page.index('id="summary"') < page.index('id="board-section"') < page.index('id="environment"')
    assert "60 of 62" in page
    assert "densenet121 · br35h · grouped · centralized · seed 0: failed, RuntimeError: out of paper" in page


def test_every_row_and_cell_is_in_the_payload(page: str) -> None:
    data = payload_of(page)
    assert len(data["cells"]) == 62
    assert sum(len(row["cells"]) for row in data["rows"]) == 62
    row = next(row for row in data["rows"] if row["dataset"] == "phantom-skin")
    assert row["rarest"] in ("df", "vasc")
    assert row["badges"] == ["synthetic"]


def test_a_column_that_a_plugin_adds_is_shown(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> None:
    run = new_run()
    key = run.done(spec("deepmedix", "br35h", 0))
    path = run.path / "cells" / key / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["kappa"] = 0.81
    result["intervals"]["kappa"] = [0.7, 0.9]
    path.write_text(json.dumps(result))
    data = payload_of(Path(report(run.path, ("html",))["files"]["html"][0]).read_text())
    assert data["columns"][-1]["name"] == "kappa"
    assert data["rows"][0]["values"]["kappa"] == [0.81, 0.7, 0.9, "images"]


def test_confusion_counts_add_up_to_the_test_part(full_run: Path) -> None:
    source = load(full_run)
    cell = source.done[0]
    entry = cell_entry(source, cell, 0)
    assert np.sum(entry["confusion"]) == entry["test"] == 620
    assert sum(images for images, _, _ in entry["bins"]) == 620
    hits = np.trace(np.array(entry["confusion"])) / 620
    assert hits == pytest.approx((cell.result or {})["metrics"]["accuracy"])


def test_thinned_roc_keeps_the_area(full_run: Path) -> None:
    from sklearn.metrics import roc_auc_score

    source = load(full_run)
    found = source.predictions(source.done[0])
    assert found is not None
    for index, pair in enumerate(roc_and_pr(found)):
        assert pair is not None
        area = np.trapezoid(pair[0].y, pair[0].x)
        exact = roc_auc_score(found.labels == index, found.probabilities[:, index])
        assert area == pytest.approx(exact, abs=0.004)
        assert len(pair[0].x) <= 48


def test_names_with_html_are_text(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]], predictions: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    table = predictions("deepmedix", "br35h", 0)
    table[f"p_{HOSTILE}"] = table.pop("p_yes")
    run.done(spec("deepmedix", "br35h", 0), table)
    run.failed(spec("resnet18", "br35h", 0), HOSTILE)
    page = Path(report(run.path, ("html", "md", "latex"))["files"]["html"][0]).read_text()
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    assert HOSTILE in payload_of(page)["cells"][0]["classes"]


def test_json_cannot_end_its_script() -> None:
    written = script_json({"a": "</script><!--\u2028"})
    assert "<" not in written
    assert json.loads(written) == {"a": "</script><!--\u2028"}


def test_a_run_in_which_everything_failed_still_has_a_page(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]
) -> None:
    run = new_run()
    run.failed(spec("deepmedix", "br35h", 0))
    run.missing(spec("resnet18", "br35h", 0))
    outcome = report(run.path)
    assert (outcome["cells"], outcome["done"]) == (2, 0)
    assert "2 of 2 cells have no result" in Path(outcome["files"]["html"][0]).read_text()


def test_a_hundred_cells_are_small(new_run: Callable[[], Any], fill_grid: Callable[..., Any], tmp_path: Path) -> None:
    models = [f"model{index}" for index in range(10)]
    run = fill_grid(new_run(), models, ["phantom-skin", "br35h"], seeds=5)
    path = Path(report(run.path, ("html",), tmp_path)["files"]["html"][0])
    assert path.stat().st_size < 6e6


@pytest.mark.slow
def test_a_thousand_cells_are_quick(new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]) -> None:
    run = new_run()
    for dataset in ("figshare-brain", "br35h", "phantom-skin", "isic2019", "brain-kaggle"):
        for seed in range(5):
            keys = [run.done(spec(f"model{model}", dataset, seed), resamples=20) for model in range(3)]
            for model in range(3, 40):
                run.like(keys[model % 3], spec(f"model{model}", dataset, seed))
    run.write_plan()
    start = time.process_time()
    outcome = report(run.path)
    assert outcome["cells"] == outcome["done"] == 1000
    # Ten seconds of two cores, as much as a busy machine may have spent.
    assert time.process_time() - start < 20


def test_times_of_several_machines_or_of_cells_side_by_side_are_told(
    new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]]
) -> None:
    from reports.html.cards import machine_notes
    from reports.load.source import load

    here = {"processor": "AMD EPYC", "cores": 2, "gpus": [], "environment": "a1", "threads": 1, "beside": 1}
    fake = new_run()
    fake.done(spec("deepmedix", "br35h", 0), machine=here)
    assert machine_notes(load(fake.path)) == []
    fake.done(spec("deepmedix", "br35h", 1), machine={**here, "beside": 3})
    fake.done(spec("deepmedix", "br35h", 2), machine={**here, "gpus": ["H200"], "environment": "b2", "threads": 4})
    told = machine_notes(load(fake.path))
    assert told[0].startswith(
        "The cells ran in 2 environments (AMD EPYC, 2 cores, 1 thread; AMD EPYC, H200, 4 threads)"
    )
    assert told[1] == "1 cell of 3 shared the machine with up to 2 others: their times are upper bounds."
