"""What every registered analysis must do, on a made-up cell that has all that it may need."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bench.analyses.registry import ANALYSES, Settings
from bench.analyses.run import analyze, listing, question
from bench.core.config import Protocol
from bench.store.answers import read_answer
from bench.store.cells import StoredCell
from bench.store.layout import ANSWERS

QUICK = {
    "geometry": {"images": 2, "pairs": 1, "points": 3, "path_steps": 2, "top": 2, "probes": 4, "layers": 1,
                 "dimension_images": 20, "neighbours": 3, "curvature": False},
    "explanations": {"images": 3, "shown": 2, "gradient_steps": 2, "removals": 2, "stride": 8},
    "external": {"on": "phantom-skin"},
    "inversion": {"batches": [1], "victims": 1, "steps": 2, "clients": 2},
    "robustness": {"images": 6, "attack_images": 2, "attack_steps": 1},
}  # fmt: skip
NAMES = [row["name"] for row in listing() if row["name"] != "membership" and ANALYSES.get(row["name"]).of == "cell"]
"""Membership asks the other seeds of a run as well: it has tests of its own. So have those of whole runs."""


@pytest.fixture(scope="module")
def cell(made_up_cell):
    found = made_up_cell("skin", epochs=20)
    found.spec = SimpleNamespace(protocol=Protocol(synthetic_images=60, image_size=32))
    return found


def stored(folder):
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"model": "m", "dataset": "phantom-skin", "split": "grouped", "regime": "centralized", "seed": 0}
    return StoredCell("made-up", folder, {**spec, "protocol": {}}, "done", {}, "")


@pytest.mark.parametrize("name", NAMES)
def test_an_analysis_keeps_the_contract(name, cell, tmp_path):
    spec = ANALYSES.get(name)
    assert issubclass(spec.settings, Settings)
    assert spec.title
    assert spec.summary.endswith("?")
    asked, place = question(name, QUICK.get(name, {})), stored(tmp_path / "cell")
    (outcome,) = analyze([place], [asked], open_cell=lambda _: cell)
    assert outcome.status == "answered", outcome.error
    answer = read_answer(place.folder, name)
    assert answer.columns
    for value, low, high in answer.columns.values():
        assert value is None or np.isfinite(value)
        assert value is not None or (low, high) == (None, None)
    assert all((place.folder / ANSWERS / path).is_file() for path in answer.files.values())
    (again,) = analyze([place], [asked], open_cell=lambda _: cell)
    assert again.status == "kept"
    other = stored(tmp_path / "other")
    list(analyze([other], [asked], open_cell=lambda _: cell))
    assert json.dumps(read_answer(other.folder, name).tables) == json.dumps(answer.tables)
