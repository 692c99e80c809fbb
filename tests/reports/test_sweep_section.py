"""The sweeps' section of a report, drawn from the run's files alone."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from reports.html.svg import number_axis
from reports.html.sweep_pictures import history, pictures, wide_pictures
from reports.html.sweeps import sweep_views
from reports.load.source import Source


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


def test_every_picture_is_there_and_is_well_formed() -> None:
    found = dict(pictures(record()))
    assert [caption.split(" ")[0] for caption in found] == [
        "History", "What", "learning_rate", "optimizer", "History", "learning_rate", "optimizer", "The"
    ]  # fmt: skip
    wide = dict(wide_pictures(record()))
    assert len(wide) == 1
    for drawn in [*found.values(), *wide.values()]:
        assert ET.fromstring(str(drawn)).tag == "svg"
    assert pictures(record(trials=[])) == []


def test_the_history_has_a_dot_a_trial_and_the_best_so_far() -> None:
    one = record(objectives=[{"column": "accuracy", "direction": "max"}], front=[2])
    complete = [trial for trial in one["trials"] if trial["values"]]
    drawn = ET.fromstring(str(history(one, complete, 0)))
    assert len(drawn.findall("circle")) == 3
    (best,) = drawn.findall("polyline")
    heights = [float(place.split(",")[1]) for place in best.attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == heights[-2]


def test_axes_put_values_where_they_belong() -> None:
    plain, log = number_axis([0, 10], 0, 106), number_axis([1e-4, 1e-2], 0, 106, log=True)
    assert plain.at(5) == pytest.approx(53)
    assert log.at(1e-3) == pytest.approx(53)
    assert number_axis([3.0], 0, 100).at(3.0) == pytest.approx(50)


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
    assert [row[0].text for row in view.tables[0].body] == ["2", "0"]
    assert re.search(r"old\.json is damaged .study: field required", source.problems[0])
