"""A fit on several devices: it learns what one device learns, goes on after a stop, and leaves nobody behind."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_source
from bench.data.loader import Part
from bench.store.layout import BEST, LAST
from models.heads.config import HeadConfig, LinearHeadConfig
from models.heads.dense import LinearHead
from models.network import Network, Normalization
from models.recipes import ddp
from models.recipes.batches import Preparation, TrainBatches
from models.recipes.callbacks import Interrupted
from models.recipes.gradient import FitContext, FitData, FitOutcome, fit
from models.recipes.processes import _sendable, pack
from models.registry import ModelSpec

CPU = torch.device("cpu")
PREPARE = Preparation(Normalization((0.5,) * 3, (0.25,) * 3), None, CPU, channels_last=True)


def maps_part(folder: Path, count: int, seed: int) -> Part:
    """Feature maps of two classes in a memory-mapped file."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    maps = rng.normal(size=(count, 8, 2, 2)) + (labels * 0.4 - 0.2)[:, None, None, None]
    path = folder / f"maps-{seed}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, maps.astype(np.float16))
    names = np.array([f"i{number}" for number in range(count)])
    return Part(np.load(path, mmap_mode="r"), np.arange(count), labels, names, names, np.full(count, ""))


def context(folder: Path, head: nn.Module | None = None, devices: int = 2, **changes: Any) -> FitContext:
    """A head with dropout and BatchNorm on maps, on two processes."""
    fields = {"epochs": 3, "batch_size": 16, "tuning": "head", "learning_rate": 0.01} | changes
    torch.manual_seed(1)
    return FitContext(
        network=Network(nn.Identity(), head or HeadConfig(widths=(8, 8, 8)).build(8, 2)),
        model=ModelSpec("small", "identity", LinearHeadConfig()),
        classes=("a", "b"),
        image_size=8,
        protocol=Protocol(**fields),
        regime="centralized",
        data=FitData(maps_part(folder, 70, 1), maps_part(folder, 41, 2)),
        prepare=PREPARE,
        data_seed=5,
        fit_seed=6,
        folder=folder,
        device=CPU,
        devices=devices,
    )


def linear(folder: Path, devices: int, **changes: Any) -> FitContext:
    """A linear head: nothing in it is random or depends on the other images of a batch."""
    torch.manual_seed(2)
    return context(folder, LinearHead(8, 2), devices, **changes)


def without_clock(outcome: FitOutcome) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in outcome.history]


def assert_same_bits(folder: Path, other: Path) -> None:
    state, again = load_file(folder / BEST), load_file(other / BEST)
    assert all(torch.equal(state[name], again[name]) for name in state)


def fit_for_long(folder: str) -> None:
    """What the test of orphans starts: tells the ids of the processes that train, then trains for an hour."""

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "batch" and event["batch"] == 1 and event["epoch"] == 0:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)

    fit(replace(linear(Path(folder), 2, epochs=1_000_000, early_stopping_patience=1_000_000), on_event=tell))


class Once:
    """Asks to stop as soon as an epoch has ended."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self) -> bool:
        return any(event["event"] == "epoch" for event in self.events)


@pytest.fixture
def plugin() -> Iterator[Any]:
    """Load a plugin's text, for one test."""
    before = dict(PLUGINS)
    yield lambda name, text: load_source(f"/plugins/{name}.py", text)
    PLUGINS.clear()
    PLUGINS.update(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitOutcome]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, fit(context(folder, epochs=4))


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_learn_what_one_device_learns(tmp_path: Path, micro_batches: int) -> None:
    events: list[dict[str, Any]] = []
    one, two = linear(tmp_path / "one", 1), replace(linear(tmp_path / "two", 2), on_event=events.append)
    expected = fit(replace(one, micro_batches=micro_batches))
    outcome = fit(replace(two, micro_batches=micro_batches))
    assert len(outcome.history) == len(expected.history) == 3
    for row, wanted in zip(without_clock(outcome), without_clock(expected), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    assert outcome.columns == expected.columns
    assert outcome.notes == ["every batch shared equally by 2 CPU processes", *expected.notes]
    assert len(expected.notes) == micro_batches - 1
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(two.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    batches = [event for event in events if event["event"] == "batch"]
    assert len(batches) == 3 * 4 * micro_batches
    assert {event["images"] for event in batches} == {16 // micro_batches}
    assert sum(event["event"] == "epoch" for event in events) == 3


@pytest.mark.slow
def test_a_stopped_fit_leaves_nobody_behind_and_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: tuple[Path, FitOutcome]
) -> None:
    stop = Once()
    with pytest.raises(Interrupted):
        fit(replace(context(tmp_path, epochs=4), on_event=stop.events.append, should_stop=stop))
    assert not multiprocessing.active_children()
    assert (tmp_path / LAST).is_file()
    assert not list(tmp_path.glob(".*.tmp"))
    assert torch.load(tmp_path / LAST, weights_only=False)["epoch"] < 3
    resumed = context(tmp_path, epochs=4)
    outcome = fit(resumed)
    folder, expected = undisturbed
    assert without_clock(outcome) == without_clock(expected)
    assert outcome.columns == expected.columns
    assert_same_bits(tmp_path, folder)
    saved = load_file(folder / BEST)
    assert all(torch.equal(saved[name], tensor) for name, tensor in resumed.module.state_dict().items())


@pytest.mark.slow
def test_batch_norm_on_cpus_is_noted(undisturbed: tuple[Path, FitOutcome]) -> None:
    assert undisturbed[1].notes[1:] == [
        "BatchNorm1d: each process has the statistics of its own shares (torch synchronizes them on GPUs only), "
        "the first one's are kept"
    ]


FAILING = """
import os
import signal
import torch
from torch import distributed, nn
from models.heads.dense import LinearHead

class Failing(LinearHead):
    def forward(self, feature_map):
        if distributed.get_rank() == 1:
            {what}
        return super().forward(feature_map)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "kind", "message", "cause"),
    [
        ("raise torch.OutOfMemoryError('no room')", torch.OutOfMemoryError, "no room", "in forward"),
        ("os.kill(os.getpid(), signal.SIGKILL)", RuntimeError, "process 2 of the 2 .* was ended by SIGKILL", ""),
    ],
)
def test_a_failing_process_fails_the_fit(
    tmp_path: Path, plugin: Any, what: str, kind: type[Exception], message: str, cause: str
) -> None:
    plugin("failing", FAILING.format(what=what))
    head = sys.modules["bench_plugin_failing"].Failing(8, 2)
    with pytest.raises(kind, match=message) as caught:
        fit(context(tmp_path, head))
    assert cause in str(caught.value.__cause__)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_processes_do_not_outlive_their_parent(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_ddp; "
    code += f"test_ddp.fit_for_long({str(tmp_path)!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    assert len(children) == 2
    os.kill(children[0].pid, signal.SIGTERM)
    time.sleep(0.5)
    assert parent.poll() is None, "a signal to the group is the parent's to deal with"
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--devices 3 does not divide batch_size = 16.*batch_size=18"):
        fit(context(tmp_path, devices=3))
    with pytest.raises(UserError, match=r"--devices 4 in 8 micro-batches does not divide batch_size = 16"):
        fit(replace(context(tmp_path, devices=4), micro_batches=8))
    with pytest.raises(UserError, match="validation part has 41 images"):
        fit(context(tmp_path, devices=64, batch_size=64))
    with pytest.raises(UserError, match=r"cannot be sent to other processes .* --devices 1"):
        fit(context(tmp_path, nn.Sequential(LinearHead(8, 2), type("Local", (nn.Identity,), {})())))


def test_a_part_smaller_than_a_batch_is_shared_as_far_as_it_goes(tmp_path: Path) -> None:
    given = context(tmp_path, devices=4, batch_size=80)
    assert ddp.batch_size(given) == 68
    assert "batches of 68 images instead of 70, for equal shares" in ddp.notes(given)
    assert ddp.batch_size(replace(given, protocol=Protocol(batch_size=16))) == 16


def test_the_shares_together_are_the_batch() -> None:
    rng = np.random.default_rng(3)
    names = np.array([f"i{number}" for number in range(30)])
    images = rng.integers(0, 256, (30, 8, 8, 3), np.uint8)
    part = Part(images, np.arange(30), rng.integers(0, 5, 30), names, names, names)
    batches = TrainBatches(part, replace(PREPARE, kind="skin"), 12, seed=3, epoch=1, parts=2)
    shares = [ddp.Share(batches, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    for whole, *parts in zip(batches, *shares, strict=True):
        assert [len(labels) for _, labels in parts] == [2, 2, 2]
        for position in (0, 1):
            assert torch.equal(torch.cat([part[position] for part in parts]), whole[position])


def test_a_mapped_file_is_mapped_again_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    np.save(path, np.arange(200_000, dtype=np.float32).reshape(1000, 200))
    maps = np.load(path, mmap_mode="r")
    raw = np.memmap(path, np.uint8, "r", offset=40, shape=(100, 3))
    load = {"maps": maps, "raw": raw, "slice": maps[3:5], "plain": np.arange(4), "turned": maps.T}
    packed = pack({name: load[name] for name in ("maps", "raw", "slice", "plain")})
    assert len(packed) < 5000
    again = pickle.loads(packed)
    for name in ("maps", "raw"):
        assert isinstance(again[name], np.memmap)
        assert again[name].mode == "r"
    turned = pickle.loads(pack(load))["turned"]
    for name, array in {**again, "turned": turned}.items():
        assert array.dtype == load[name].dtype
        assert np.array_equal(array, load[name])


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(f"{one} and {two}")

    assert isinstance(_sendable(MemoryError("full")), MemoryError)
    told = _sendable(Odd("this", "that"))
    assert type(told) is RuntimeError
    assert str(told) == "Odd: this and that"


def test_synchronized_batch_norms_compute_the_same_and_unknown_kinds_stay() -> None:
    norm_act = pytest.importorskip("timm.layers").BatchNormAct2d
    kind = type("Own", (nn.BatchNorm2d,), {})
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(norm_act(4), kind(4))).eval()
    images = torch.randn(2, 3, 5, 5)
    expected, names = module(images), list(module.state_dict())
    ddp.synchronize(module)
    assert [type(layer).__name__ for layer in module.modules() if hasattr(layer, "running_var")] == [
        "SyncBatchNorm",
        "SyncBatchNormAct",
        "Own",
    ]
    assert torch.equal(module(images), expected)
    assert list(module.state_dict()) == names
