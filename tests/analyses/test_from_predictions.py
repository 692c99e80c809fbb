"""Every analysis of stored predictions: whatever the parts hold, it answers in plain values and makes no value up."""

import json
import subprocess
import sys

import numpy as np
import pytest

import bench.analyses.builtin  # noqa: F401
from bench.analyses.registry import ANALYSES, Answer

NAMES = ("calibration", "decisions", "conformal", "selective", "subgroups")


def ask(name, cell, folder, **values) -> Answer:
    spec = ANALYSES.get(name)
    return spec.load()(cell, spec.configured({"resamples": 100, **values}), folder)


def cells(made):
    full, one = made.drawn(1, 60, 3), made.part([1] * 20, made.drawn(2, 20, 3).probabilities)
    few = made.part(full.labels, full.probabilities, np.repeat(["p", "q", "r"], 20))
    yield "three classes", made.cell(full, made.drawn(3, 60, 3))
    yield "two classes", made.cell(made.drawn(1, 60, 2), made.drawn(3, 60, 2))
    yield "no validation", made.cell(full)
    yield "empty validation", made.cell(full, made.part([], np.empty((0, 3))))
    yield "one class in validation", made.cell(full, one)
    yield "one class in test", made.cell(one, full)
    yield "one image", made.cell(made.part([2], [[0.2, 0.3, 0.5]]), full)
    yield "one patient", made.cell(made.part(full.labels, full.probabilities, ["p"] * 60), full)
    yield "three patients", made.cell(few, few)
    yield "always sure and right", made.cell(*[made.part(np.arange(40) % 3, np.eye(3)[np.arange(40) % 3])] * 2)
    yield "always the same answer", made.cell(*[made.part(np.arange(40) % 3, np.full((40, 3), 1 / 3))] * 2)


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_whatever_the_parts_hold(made, tmp_path, name):
    for what, cell in cells(made):
        answer = ask(name, cell, tmp_path)
        json.dumps([answer.tables, answer.notes], allow_nan=False)
        assert all(column.startswith(f"{name}_") for column in answer.columns), what
        for column, found in answer.columns.items():
            bounds = [value for value in (found.low, found.value, found.high) if value is not None]
            assert all(type(value) is float and np.isfinite(value) for value in bounds), (what, column)
            assert bounds == sorted(bounds), (what, column, found)
            assert found.value is not None or (found.low is None and found.high is None), (what, column)
        if any(found.value is None for found in answer.columns.values()):
            assert answer.notes, what


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_the_same_twice_and_otherwise_with_another_seed(made, tmp_path, name):
    sites = np.where(np.arange(120) % 2, "n", "s")
    given = made.drawn(5, 120, 3)
    cell = made.cell(made.part(given.labels, given.probabilities, given.groups, sites), made.drawn(6, 90, 3))
    first = ask(name, cell, tmp_path)
    assert ask(name, cell, tmp_path) == first
    assert ask(name, cell, tmp_path, seed=1).columns != first.columns


def test_none_of_them_loads_torch():
    code = f"import sys, bench.analyses.builtin as b; [b.ANALYSES.get(n).load() for n in {NAMES}]; "
    code += "import bench.analyses.optimism, bench.analyses.discrimination\n"
    code += "print([m for m in ('torch', 'pytorch_lightning', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
