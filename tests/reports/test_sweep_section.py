"""The sweeps' section of a report, from the run's files alone, and what the page's script draws of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.html.sweeps import sweep_views
from reports.load.source import Source
from reports.write import report


def record(**changes: Any) -> dict[str, Any]:
    trials = [
        {
            "number": 0,
            "state": "complete",
            "params": {"learning_rate": 1e-3, "optimizer": "adam"},
            "values": [0.5, 3.0],
        },
        {"number": 1, "state": "pruned", "params": {"learning_rate": 1e-4, "optimizer": "adam"}, "values": None},
        {
            "number": 2,
            "state": "complete",
            "params": {"learning_rate": 1e-2, "optimizer": "<sgd>"},
            "values": [0.8, 4.0],
        },
        {
            "number": 3,
            "state": "complete",
            "params": {"learning_rate": 5e-3, "optimizer": "adam"},
            "values": [0.7, 5.0],
        },
    ]
    return {
        "schema": 1, "study": "s", "model": "deepmedix", "dataset": "phantom-brain", "regime": "centralized", "seed": 0,
        "split": "grouped", "trials": trials, "front": [2, 0], "best": 2, "cells": {},
        "objectives": [{"column": "accuracy", "direction": "max"}, {"column": "macs_m", "direction": "min"}],
        "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "step": None},
                  "optimizer": {"choices": ["adam", "<sgd>"]}},
        "importances": [{"learning_rate": 0.75, "optimizer": 0.25}, {}],
    } | changes  # fmt: skip


def test_a_run_shows_its_sweeps_and_names_what_it_cannot_read(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    folder.mkdir()
    (folder / "good.json").write_text(json.dumps(record()))
    (folder / "old.json").write_text(json.dumps({"schema": 9}))
    source = Source(tmp_path, [], {}, {"cells": []})
    (view,) = sweep_views(source)
    assert view.title == "deepmedix on phantom-brain, centralized"
    assert "4 trials (3 complete, 1 pruned)" in view.about
    assert view.brought is None
    assert [trial["number"] for trial in view.drawn["trials"]] == [0, 2, 3]
    assert view.drawn["importances"][0] == {"learning_rate": 0.75, "optimizer": 0.25}
    assert [row[0].text for row in view.tables[0].body] == ["2", "0"]
    assert re.search(r"old\.json is damaged .study: field required", source.problems[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"front": [7]},
        {"objectives": [{"column": "accuracy", "direction": "max"}]},
        {"space": {"learning_rate": {"low": 1e-4}}},
    ],
)
def test_a_record_that_contradicts_itself_is_not_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s.json").write_text(json.dumps(record(**changes)))
    source = Source(tmp_path, [], {}, {"cells": []})
    assert sweep_views(source) == []
    assert re.search(r"s\.json is (damaged|no record of a sweep)", source.problems[0])


@pytest.fixture(scope="module")
def drawn(browser: Any, tmp_path_factory: pytest.TempPathFactory, make_run: Callable[[Path], Any]) -> Any:
    """The page of a run with a sweep, and with clients whose images are known, in the browser."""
    run = make_run(tmp_path_factory.mktemp("searched") / "run")
    key = run.done(run.spec("deepmedix", "br35h", 0, regime="fedavg"), resamples=20)
    about = {"partition": "iid", "clients": ["a", "b<c>"], "train": [[30, 10], [0, 20]], "val": [[1, 0], [0, 1]]}
    (run.path / "cells" / key / "partition.json").write_text(json.dumps(about))
    (run.path / "sweeps").mkdir()
    (run.path / "sweeps" / "s.json").write_text(json.dumps(record()))
    browser.get("file://" + report(run.path, ("html",))["files"]["html"][0])
    return browser


def asked(browser: Any, script: str) -> Any:
    return browser.execute_script(f"return {script}")


@pytest.mark.browser
def test_every_picture_of_a_sweep_is_drawn(drawn: Any) -> None:
    titles = asked(drawn, "[...document.querySelectorAll('#sweep-0 figcaption')].map(c => c.firstChild.textContent)")
    assert [title.split(" ")[0] for title in titles] == [
        "History", "What", "learning_rate", "optimizer", "History", "learning_rate", "optimizer", "The"
    ]  # fmt: skip
    assert asked(drawn, "document.querySelectorAll('#sweep-0 svg').length") == len(titles)
    assert asked(drawn, "document.querySelectorAll('#sweep-wide-0 svg polyline[data-tip]').length") == 3
    assert "<sgd>" in asked(drawn, "document.getElementById('sweep-0').textContent")
    assert "NaN" not in asked(drawn, "document.getElementById('sweeps').innerHTML")


@pytest.mark.browser
def test_the_history_has_a_mark_a_trial_and_the_best_so_far(drawn: Any) -> None:
    assert asked(drawn, "document.querySelectorAll('#sweep-0 figure:first-child circle').length") == 3
    places = asked(drawn, "document.querySelector('#sweep-0 figure:first-child polyline').getAttribute('points')")
    heights = [float(place.split(",")[1]) for place in places.split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == heights[-2]
    tips = asked(drawn, "[...document.querySelectorAll('#sweep-0 figure:first-child g')].map(g => g.dataset.tip)")
    assert "trial 3: 0.7, 5\nlearning_rate 0.005, optimizer adam" in tips


@pytest.mark.browser
def test_scales_put_values_where_they_belong(drawn: Any) -> None:
    assert asked(drawn, "scaleOf({min: 0, max: 10}, 0, 100)(5)") == pytest.approx(50)
    assert asked(drawn, "scaleOf({min: 1e-4, max: 1e-2, log: true}, 0, 100)(1e-3)") == pytest.approx(50)
    low, high = asked(drawn, "padded([3, 3], 0.05)")
    assert low < 3 < high


@pytest.mark.browser
def test_the_bars_of_clients_are_as_long_as_their_counts(drawn: Any) -> None:
    bars = "[...document.querySelectorAll('#partition-plots rect')].map(r => [r.dataset.tip, +r.getAttribute('width')])"
    widths = dict(asked(drawn, bars))
    assert list(widths) == ["a, no: 30", "a, yes: 10", "b<c>, no: 0", "b<c>, yes: 20"]
    assert widths["a, no: 30"] == pytest.approx(3 * widths["a, yes: 10"])
    assert widths["b<c>, yes: 20"] == pytest.approx(2 * widths["a, yes: 10"])
