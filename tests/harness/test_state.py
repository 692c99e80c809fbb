"""What a killed fit left behind is data; what cannot be gone on from is set aside, said, and the cell begins anew."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.errors import DamagedState
from bench.store.run import Run
from federated.server import checkpoint
from federated.server.vectors import Model
from models.recipes.state import load_weights, set_aside

MARK = "executed"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def _pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(mark)))


def _checkpoint(path: Path, mark: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 1, "loops": Payload(mark)}, path)


def _cut(path: Path, mark: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:500])


def _foreign(path: Path, mark: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.zeros(2)}, "epoch": 1, "global_step": 3, "pytorch-lightning_version": "2.0"}, path
    )


def _sparse(path: Path, mark: Path) -> None:
    torch.save({"state_dict": {"0.weight": torch.zeros(1).expand(10**12)}, "epoch": "one"}, path)


def _objects(path: Path, mark: Path) -> None:
    np.savez(path.with_suffix(".npz"), about=np.array([Payload(mark)], dtype=object))
    path.with_suffix(".npz").rename(path)


def _pipe(path: Path, mark: Path) -> None:
    os.mkfifo(path)


HARMS = (_pickle, _checkpoint, _cut, _foreign, _sparse, _objects, _pipe)


@pytest.mark.parametrize("regime", ["centralized", "fedavg"])
def test_a_cell_with_a_harmful_state_begins_anew_and_says_so(
    small_plan: Callable[..., Any], run_plan: Callable[..., Any], tmp_path: Path, regime: str
) -> None:
    plan = small_plan(regimes=regime)
    (cell,) = plan.cells
    assert run_plan(plan, "clean").done == 1
    run = Run(tmp_path / "clean")
    run.write_plan([{"key": cell.key, "cell": cell.spec.as_dict()}], "bench run")
    written = (run.path / "plan.json").read_bytes()
    expected = (tmp_path / "clean" / "cells" / cell.key / "predictions.parquet").read_bytes()
    for number, harm in enumerate(HARMS):
        folder = tmp_path / f"harmed{number}" / "cells" / cell.key
        folder.mkdir(parents=True)
        (tmp_path / f"harmed{number}" / "plan.json").write_bytes(written)
        mark = tmp_path / f"{MARK}{number}"
        harm(folder / "last.ckpt", mark)
        assert run_plan(plan, f"harmed{number}").done == 1, harm.__name__
        assert not mark.exists()
        notes = json.loads((folder / "result.json").read_text())["notes"]
        assert any("began anew" in note and "set-aside-1" in note for note in notes), (harm.__name__, notes)
        assert (folder / "set-aside-1" / "last.ckpt").exists()
        assert (folder / "predictions.parquet").read_bytes() == expected


def test_weights_of_another_network_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes((10**15).to_bytes(8, "little") + b"{" * 100)
    with pytest.raises(DamagedState, match=r"best\.safetensors does not hold this network's weights"):
        load_weights(torch.nn.Linear(2, 2), path)
    path.unlink()
    with pytest.raises(DamagedState, match="cannot be read"):
        load_weights(torch.nn.Linear(2, 2), path)


def test_what_is_set_aside_stays_apart_from_the_cells_name(tmp_path: Path) -> None:
    for name in ("cell.json", "failure.json", "last.ckpt", ".lock"):
        (tmp_path / name).write_text(name)
    (tmp_path / "clients").mkdir()
    assert set_aside(tmp_path).name == "set-aside-1"
    (tmp_path / "last.ckpt").write_text("again")
    assert sorted(path.name for path in set_aside(tmp_path).iterdir()) == ["last.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "cell.json", "failure.json", "set-aside-1", "set-aside-2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"model.weights": np.zeros(4, np.float32)},
        {"model.weights": np.array([np.nan, 0, 0], np.float32)},
        {"about": np.frombuffer(b'{"layout": 2, "round": 5, "history": []}', np.uint8)},
        {"about": np.frombuffer(b"[" * 100_000, np.uint8)},
    ],
)
def test_rounds_of_another_model_are_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "rounds.npz"
    start = checkpoint.Progress.start(Model(np.zeros(3, np.float32), np.zeros(1, np.float32), np.zeros(0, np.float32)))
    checkpoint.save(path, start)
    assert checkpoint.load(path, start).round == 0
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, **change})
    with pytest.raises(DamagedState, match=r"rounds\.npz"):
        checkpoint.load(path, start)
