"""From what a fit is handed, nothing leads to the test set: every attribute, container, base and closure is walked."""

from __future__ import annotations

import functools
import mmap
import pickle
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.config import Runtime
from bench.core.paths import cache
from bench.data.images.cache import images as cached_images
from bench.data.loader import Part
from bench.data.splits import split
from bench.data.table import Table
from bench.harness.inputs import CellJob
from bench.harness.plan import Plan
from bench.harness.regimes import REGIMES, RegimeSpec
from bench.harness.trial import run_trial
from bench.store.layout import PREDICTIONS
from bench.store.run import Run
from federated.deployment import apps as deployed
from federated.deployment.task import Task
from federated.simulation.cell import Simulation
from models.recipes import gradient as training
from models.recipes.context import FitContext
from tests.harness.conftest import MakePlan, RunPlan

HEARD: list[Any] = []


def capture(context: FitContext) -> Any:
    """Stands in for a plugin's regime: looks at what it was handed, a federation's clients included."""
    simulation = Simulation.of(context)
    leftover = (context.folder / PREDICTIONS).exists()
    HEARD.append([context, simulation, simulation.client(0), next(iter(context.train_batches(0))), leftover])
    raise ValueError("seen enough")


@pytest.fixture(autouse=True)
def _capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    HEARD.clear()
    monkeypatch.setattr(training, "capture", capture, raising=False)
    monkeypatch.setitem(REGIMES._items, "fedavg", RegimeSpec("fedavg", "captures", "models.recipes.gradient:capture"))


def references(thing: Any) -> Iterator[Any]:
    """What an attribute, an item, a base, a bound object or a closure of a thing leads to."""
    if isinstance(thing, Mapping):
        yield from thing.keys()
        yield from thing.values()
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from thing
    elif isinstance(thing, types.FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or ())
        yield from (thing.__defaults__, thing.__kwdefaults__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, types.GeneratorType):
        yield thing.gi_frame.f_locals if thing.gi_frame else None
    yield getattr(thing, "__self__", None)
    yield getattr(thing, "base", None) if isinstance(thing, np.ndarray) else None
    yield thing.obj if isinstance(thing, memoryview) else None
    yield getattr(thing, "__dict__", None)
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    yield from (getattr(thing, name, None) for name in slots if name != "__weakref__")


def reachable(*start: Any) -> list[Any]:
    """Everything that can be walked to, modules and classes left out."""
    found: dict[int, Any] = {}
    left = list(start)
    while left:
        thing = left.pop()
        if id(thing) in found or thing is None or isinstance(thing, (types.ModuleType, type)):
            continue
        found[id(thing)] = thing
        left.extend(references(thing))
    return list(found.values())


def leaks(things: list[Any], table: Table, test: Any, inputs: Any) -> list[str]:
    """What of the things holds test rows of the inputs, their labels or ids, or names where they lie."""
    secret_rows = {inputs[row].tobytes() for row in test}
    secret_ids = set(table.ids[test].tolist())
    found = []
    for thing in things:
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            thing = thing.detach().numpy()
        if isinstance(thing, (Table, Plan, CellJob, mmap.mmap)):
            found.append(type(thing).__name__)
        elif isinstance(thing, np.ndarray) and thing.shape[1:] == inputs.shape[1:] and thing.dtype == inputs.dtype:
            found += ["rows"] * any(row.tobytes() in secret_rows for row in thing)
        elif isinstance(thing, np.ndarray) and thing.dtype.kind == "U":
            found += ["ids"] * bool(secret_ids & set(thing.ravel().tolist()))
        elif isinstance(thing, np.ndarray):
            found += ["labels"] * (thing.shape == table.labels.shape and bool((thing == table.labels).all()))
        elif isinstance(thing, (str, Path)):
            found += ["path"] * (str(thing) in secret_ids or str(thing).startswith(str(cache())))
    return found


def parts_of(plan: Plan) -> tuple[Table, Any]:
    spec = plan.cells[0].spec
    table = plan.tables[spec.dataset]
    return table, split(table, spec.split, spec.data_seed).test


def test_the_walk_finds_what_is_there(small_plan: MakePlan) -> None:
    """Without the wall: a bare array, its view, a closure over the table, a bound method."""
    plan = small_plan()
    table, test = parts_of(plan)
    images = cached_images(table, 32)

    class Bound:
        def __init__(self) -> None:
            self.plan = plan

        def method(self) -> None: ...

    assert leaks(reachable({"x": [images]}), table, test, images).count("rows") >= 1
    assert "mmap" in leaks(reachable((images[3:5],)), table, test, images)
    assert "Table" in leaks(reachable(lambda: table), table, test, images)
    assert "Plan" in leaks(reachable(functools.partial(Bound().method)), table, test, images)
    assert "labels" in leaks(reachable(table.labels[:4]), table, test, images)
    assert "ids" in leaks(reachable(table.ids[:4]), table, test, images)
    train = np.setdiff1d(np.arange(len(table)), test)
    assert not leaks(reachable(images[train].copy(), table.ids[train]), table, test, images)


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_a_fit_cannot_walk_to_the_test_part(
    small_plan: MakePlan, run_plan: RunPlan, tmp_path: Path, tuning: str
) -> None:
    views = ["feature_views=2"] if tuning == "head" else []
    overrides = (f"tuning={tuning}", "federated.clients=3", *views)
    plan = small_plan("deepmedix@tiny", overrides, regimes="fedavg")
    table, test = parts_of(plan)
    assert run_plan(plan).failed == 1
    (Run.open(tmp_path / "run").folder(plan.cells[0].key) / PREDICTIONS).write_bytes(b"of an attempt that was killed")
    assert run_plan(plan).failed == 1
    _, heard = HEARD
    context: FitContext = heard[0]
    inputs = _whole_inputs(context, table)
    assert len(context.data.train) + len(context.data.val) + len(test) == len(table)
    assert not leaks(reachable(heard), table, test, inputs)
    assert heard[-1] is False


def _whole_inputs(context: FitContext, table: Table) -> Any:
    """What the parts were cut from: found behind the door that a plugin is not shown."""
    from bench.data.sealed import held

    array, _ = held(context.data.train.inputs)
    assert len(array) == len(table)
    return array


def test_a_trial_cannot_either(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("linear@tiny", ("tuning=full", "federated.clients=3"), regimes="fedavg")
    table, test = parts_of(plan)
    job = CellJob(plan.cells[0], table, tmp_path / "trial", Runtime(), lambda event: list(plan.cells).clear())
    with pytest.raises(ValueError, match="seen enough"):
        run_trial(job, timed=False)
    assert not leaks(reachable(HEARD), table, test, cached_images(table, 32))


def test_a_site_of_a_deployment_cannot_either(small_plan: MakePlan, tmp_path: Path) -> None:
    plan = small_plan("linear@tiny", ("tuning=full", "federated.clients=3"), regimes="fedavg")
    spec, table = plan.cells[0].spec, plan.tables["phantom-brain"]
    task = Task("phantom-brain", "linear@tiny", "fedavg", spec.protocol, tuple(table.classes), 3, rehearsal=True)
    node = {"data": "phantom-brain", "partition-id": 1, "state": str(tmp_path)}
    client = deployed.site_client(task.to_json(), tuple(sorted(node.items())))
    test = split(table, task.split, task.cell.data_seed).test
    assert not leaks(reachable(client), table, test, cached_images(table, 32))


def numbered(count: int, rows: list[int]) -> Part:
    """Inputs that say their own row."""
    array = np.arange(count, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    names = np.array([str(row) for row in rows])
    return Part(array, np.array(rows), np.array(rows) % 2, names, names, names, views=(array + 100,))


def test_a_part_reads_its_own_rows_and_refuses_others() -> None:
    own = numbered(10, [7, 2, 5])
    assert own.inputs[np.array([2, 0])][:, 0].tolist() == [5, 7]
    assert own.inputs[1].tolist() == [2, 2]
    assert own.inputs[1].base is None
    assert own.inputs[1:][:, 0].tolist() == [2, 5]
    assert np.asarray(own.inputs)[:, 0].tolist() == [7, 2, 5]
    assert (len(own.inputs), own.inputs.shape) == (3, (3, 2))
    for beyond in (3, -4, np.array([0, 3])):
        with pytest.raises(IndexError, match="out of bounds"):
            own.inputs[beyond]
    own.gather(np.array([0]))[:] = -1
    assert own.inputs[0].tolist() == [7, 7]


def test_shares_and_joins_keep_to_their_rows() -> None:
    first, second = numbered(10, [7, 2, 5]), numbered(10, [1])
    share = first.subset(np.array([2, 0]))
    assert np.asarray(share.inputs)[:, 0].tolist() == [5, 7]
    assert np.asarray(share.views[0])[:, 0].tolist() == [105, 107]
    with pytest.raises(ValueError, match="of the same inputs"):
        first.joined(second)
    with pytest.raises(ValueError, match="a part of 2 rows was given 3 inputs"):
        replace(first, rows=np.array([0, 1]))


def test_a_pickled_part_holds_its_own_rows_alone() -> None:
    array = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    names = np.array(["a", "b"])
    own = Part(array, np.array([3, 999]), np.array([0, 1]), names, names, names)
    sent = pickle.dumps(own)
    assert len(sent) < 2000
    assert np.array_equal(np.asarray(pickle.loads(sent).inputs), array[[3, 999]])
