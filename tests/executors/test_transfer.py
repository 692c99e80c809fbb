"""What travels to a worker and back, and what a worker makes of it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.core.config import Runtime, load_protocol
from bench.core.errors import UserError
from bench.core.plugins import PLUGINS, load_plugin, load_source
from bench.data import registry as datasets
from bench.data.images.cache import images, keep
from bench.executors import artifacts
from bench.executors.artifacts import find_table, find_weights, metadata_of, receive_images, receive_weights
from bench.executors.driver import Driver
from bench.executors.ray.resources import GIB, Resources, most_on_one_machine, resources_for
from bench.executors.transfer import collect, commit, pack, run_task, throttled, unfinished
from bench.harness.plan import Request, make_plan
from bench.store.layout import RESULT
from models.registry import MODELS
from models.weights.initial import resolve

CPU = Runtime(device="cpu", threads=1)


def ship(plan: Any, **changes: Any) -> Any:
    cell = plan.cells[0]
    metadata = metadata_of(plan.tables[cell.spec.dataset], cell.image_size)
    # As it travels: a task that cannot be pickled is none.
    return pickle.loads(pickle.dumps((replace(pack(cell, CPU, 1), **changes), metadata)))


def test_a_task_of_another_version_or_of_another_cell_is_refused_in_a_sentence(grid: Any, tmp_path: Path) -> None:
    plan = grid("linear@tiny")
    older, metadata = ship(plan, version="0.0.1")
    result = run_task(older, metadata, tmp_path, lambda event: None, lambda: False)
    assert result.status == "failed"
    assert "the driver 0.0.1; install one version on every machine" in result.failure["error"]
    other, metadata = ship(plan, key="0123")
    result = run_task(other, metadata, tmp_path, lambda event: None, lambda: False)
    assert "as another cell" in result.failure["error"]
    assert result.failure["key"] == "0123"
    assert not (tmp_path / RESULT).exists()


def test_a_plugins_text_is_executed_once_a_process() -> None:
    load_source("/elsewhere/counted.py", "import builtins; builtins.times = getattr(builtins, 'times', 0) + 1")
    load_source("/elsewhere/counted.py", PLUGINS["/elsewhere/counted.py"])
    import builtins

    assert builtins.times == 1  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"--plugin /elsewhere/bad\.py failed: NameError"):
        load_source("/elsewhere/bad.py", "nonsense")
    assert "/elsewhere/bad.py" not in PLUGINS


def test_a_plugin_says_its_own_encoding_and_one_that_is_no_text_gets_a_sentence(tmp_path: Path) -> None:
    latin, broken = tmp_path / "latin.py", tmp_path / "broken.py"
    latin.write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    load_plugin(latin)
    assert "name = 'é'" in PLUGINS[str(latin.resolve())]
    broken.write_bytes("name = 'é'\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"--plugin .*broken\.py failed: SyntaxError"):
        load_plugin(broken)


def add_dataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    for name in ("no", "yes"):
        (folder / "files" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "files" / name / f"{number}.png")
    monkeypatch.setenv("BENCH_HOME", str(folder / "home"))
    monkeypatch.setenv("BENCH_CACHE", str(folder / "cache"))
    datasets.add("here-alone", folder / "files")


def test_images_are_found_on_the_worker_or_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_dataset(tmp_path, monkeypatch)
    protocol = load_protocol("demo", ["image_size=32", "batch_size=4"])
    plan = make_plan(Request("linear@tiny", "here-alone", protocol, "centralized", "1"))
    (cell,) = plan.cells
    _, metadata = ship(plan)
    found = find_table(cell.spec, metadata)
    assert found is not None
    assert found.images.read(0).shape == (20, 24, 3)
    sent = np.array(images(plan.tables["here-alone"], 32))

    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "worker" / "home"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "worker" / "cache"))
    artifacts._own_copy.cache_clear()
    assert find_table(cell.spec, metadata) is None
    receive_images(metadata, sent)
    table = find_table(cell.spec, metadata)
    assert table is not None
    assert table.fingerprint() == plan.tables["here-alone"].fingerprint()
    assert np.array_equal(images(table, 32), sent)
    with pytest.raises(UserError, match="are gone from this worker's cache"):
        images(table, 16)
    with pytest.raises(ValueError, match=r"uint8\[16, 8, 8, 3\], not uint8\[16, 32, 32, 3\]"):
        keep(table, 32, sent[:, ::4, ::4])


def test_another_dataset_of_the_same_name_is_not_taken_for_it(grid: Any, tmp_path: Path) -> None:
    plan = grid("linear@tiny")
    cell = plan.cells[0]
    table = plan.tables["phantom-brain"]
    other = table.select(np.arange(len(table) - 1))
    assert find_table(cell.spec, metadata_of(other, 32)) is None
    assert find_table(cell.spec, metadata_of(table, 32)) is not None


def test_an_audit_travels_along(grid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_dataset(tmp_path, monkeypatch)
    protocol = load_protocol("demo", ["image_size=32", "batch_size=4"])
    plan = make_plan(Request("linear@tiny", "here-alone", protocol, "centralized", "1"))
    table = plan.tables["here-alone"]
    artifacts.store_audit(table, {"pairs": []})
    _, metadata = ship(plan)
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "worker"))
    assert artifacts.stored_audit(table) is None
    find_table(plan.cells[0].spec, metadata)
    assert artifacts.stored_audit(table) == {"pairs": []}


def test_weights_are_found_by_content_or_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MODELS.get("linear@tiny")
    torch.manual_seed(0)
    mine = tmp_path / "mine.safetensors"
    save_file(dict(spec.build(2).backbone.state_dict()), mine)
    resolved = resolve(str(mine), spec)
    assert find_weights(resolved) == resolved
    elsewhere = replace(resolved, path=tmp_path / "unmounted" / "mine.safetensors")
    assert find_weights(elsewhere) is None
    receive_weights(elsewhere, mine.read_bytes())
    received = find_weights(elsewhere)
    assert received is not None
    assert received.path is not None
    assert received.path.read_bytes() == mine.read_bytes()
    # A file of the same name with other content is another file.
    mine.write_bytes(mine.read_bytes() + b" ")
    assert find_weights(resolved) != resolved


def test_a_cells_files_are_committed_with_its_result_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    (far / "state" / "refit").mkdir(parents=True)
    for name in ("result.json", "cell.json", "state/refit/last.ckpt", "last.ckpt", ".lock", ".cell.json.1.tmp"):
        (far / name).write_text(name)
    files = collect(far)
    assert set(files) == {"result.json", "cell.json", "state/refit/last.ckpt", "last.ckpt"}
    written: list[str] = []
    from bench.core.atomic import write_bytes

    def spying(path: Path, content: bytes) -> None:
        written.append(path.name)
        write_bytes(path, content)

    monkeypatch.setattr("bench.executors.transfer.write_bytes", spying)
    near.mkdir()
    (near / "failure.json").write_text("{}")
    commit(near, files)
    assert written[-1] == "result.json"
    assert {path.name for path in near.iterdir()} == {"result.json", "cell.json"}


def test_only_the_state_to_go_on_from_travels_to_the_next_worker(tmp_path: Path) -> None:
    for name in ("cell.json", "failure.json", "last.ckpt", "best.safetensors", ".lock"):
        (tmp_path / name).write_text(name)
    assert set(unfinished(tmp_path)) == {"last.ckpt", "best.safetensors"}


def test_events_of_every_batch_are_passed_on_now_and_then() -> None:
    heard: list[dict[str, Any]] = []
    tell = throttled(heard.append)
    for batch in range(100):
        tell({"event": "batch", "batch": batch})
    tell({"event": "epoch"})
    assert [event["event"] for event in heard] == ["batch", "epoch"]


def test_a_machine_holds_what_its_scarcest_resource_allows() -> None:
    wanted = Resources(cpus=2, gpus=0.25, memory=3 * GIB)
    assert wanted.fits({"CPU": 16, "GPU": 1, "memory": 64 * GIB}) == 4
    assert wanted.fits({"CPU": 5, "GPU": 1, "memory": 64 * GIB}) == 2
    assert wanted.fits({"CPU": 16, "GPU": 1, "memory": 8 * GIB}) == 2
    assert wanted.fits({"CPU": 16, "memory": 64 * GIB}) == 0
    assert most_on_one_machine(wanted, [{"CPU": 1}, {"CPU": 4, "GPU": 2, "memory": 64 * GIB}]) == 2
    assert most_on_one_machine(wanted, []) == 0
    assert Resources(1, 1 / 3, GIB).fits({"CPU": 9, "GPU": 1, "memory": 64 * GIB}) == 3


def test_what_a_cell_asks_for(grid: Any) -> None:
    cell = grid("linear@tiny", overrides=("tuning=full", "batch_size=8", "timing_batch_size=4")).cells[0]
    wanted = resources_for(cell, 2, Runtime(threads=3), gpu=False)
    # A 7 x 7 map of 8 channels of the convolution, and the two logits, an image; 5 * 5 * 3 * 8 + 8 weights and biases
    # of the convolution, 16 of the normalization, 8 * 2 + 2 of the head.
    tensors = 4 * (608 + 16 + 18) + 3 * (7 * 7 * 8 + 2) * 8
    assert (wanted.cpus, wanted.gpus) == (3, 0)
    assert wanted.memory == pytest.approx(1.2 * GIB + 4 * tensors, abs=64)
    assert resources_for(cell, 2, Runtime(per_gpu=4), gpu=True).gpus == 0.25


def test_a_driver_gives_each_cell_once_and_a_returned_one_first(grid: Any, tmp_path: Path) -> None:
    from bench.executors.driver import Stop
    from bench.store.run import Run

    plan = grid("linear@tiny", seeds="3")
    driver = Driver(plan, Run.create(tmp_path / "run"), CPU, [], Stop())
    other = Driver(plan, Run.create(tmp_path / "run"), CPU, [], Stop())
    first, second = driver.claim(), driver.claim()
    assert first is not None
    assert second is not None
    third = other.claim()
    assert third is not None
    assert {first.key, second.key, third.key} == {cell.key for cell in plan.cells}
    assert driver.claim() is None
    driver.put_back(second)
    assert driver.claim() is second
