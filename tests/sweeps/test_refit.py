"""A trial is judged on images that it never learned from, whatever the base protocol says of refitting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from bench.core.config import Protocol, Runtime, load_protocol
from bench.data.registry import DATASETS, DatasetSpec
from bench.data.table import Table
from bench.harness.plan import Request
from bench.harness.trial import run_trial
from bench.store.run import Run
from models.backbones.registry import BACKBONES, Backbone
from sweeps.sweep import Asked, prepare, run_sweep

IMAGES, CLASSES = 150, 3


class _Noise:
    def read(self, index: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(index).integers(0, 256, (32, 32, 3)).astype(np.uint8)

    def checksum(self, index: int) -> str:
        return f"noise {index}"


def _read(folder: Path, protocol: Protocol) -> Table:
    ids = np.array([f"{number:03}" for number in range(IMAGES)])
    labels = np.random.default_rng(7).integers(0, CLASSES, IMAGES)
    none = np.full(IMAGES, "")
    return Table("noise", ("a", "b", "c"), ids, labels, ids, none, none, _Noise(), synthetic=True)


def _memory() -> nn.Module:
    """Wide enough to learn every image by heart."""
    return nn.Sequential(nn.Conv2d(3, 256, 32, stride=32), nn.BatchNorm2d(256), nn.ReLU())


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    """One choice, so that two sweeps fit the same trial whatever their sampler's seed."""
    path = tmp_path / "one.toml"
    path.write_text("[protocol]\nlearning_rate = [1e-2]\nbatch_size = [8]\n")
    return path


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset whose labels have nothing to do with its images, and a network that learns them by heart."""
    if "memory" not in BACKBONES.names():
        BACKBONES.register("memory", Backbone("memory", 256, _memory))
    DATASETS.names()
    # Taken out again: `--datasets all` of other tests must not find it.
    spec = DatasetSpec("noise", "Noise", "", _read, synthetic=True, embedded=True)
    monkeypatch.setitem(DATASETS._items, "noise", spec)
    return "noise"


def sweep_asked(folder: Path, space: Path, dataset: str, refit: bool) -> Asked:
    fields = ["image_size=32", "epochs=8", "tuning=full", "augmentation=none", "timing_batch_size=2"]
    protocol = load_protocol("demo", [*fields, "bootstrap_resamples=100", f"refit={str(refit).lower()}"])
    request = Request("linear@memory", dataset, protocol, "centralized", "1", "grouped")
    return Asked(request, 1, ("accuracy:max",), folder, Runtime(progress="none"), space, test=refit)


def test_a_trial_on_noise_is_no_better_than_chance_when_the_base_refits(
    noise: str, tmp_path: Path, space_file: Path, silent: Any
) -> None:
    values = {}
    for refit in (False, True):
        outcome = run_sweep(sweep_asked(tmp_path / str(refit), space_file, noise, refit), silent)
        (trial,) = json.loads(Path(outcome["record"]).read_text())["trials"]
        values[refit] = trial["values"][0]
    assert values[True] == values[False] < 0.75
    # The chosen protocol, fitted as an ordinary cell, refits as the base says.
    tuned = {cell.key: cell for cell in Run.open(tmp_path / "True").cells()}[outcome["cells"]["tuned"][0]]
    assert tuned.result is not None
    assert tuned.spec["protocol"]["refit"] is True
    assert tuned.result["metrics"]["refit_epochs"] >= 1


def test_a_trial_that_would_refit_is_a_programming_error(noise: str, tmp_path: Path, space_file: Path) -> None:
    sweep, default = prepare(sweep_asked(tmp_path / "run", space_file, noise, True))
    job = sweep.job(sweep.base, lambda event: None, lambda: False)
    assert not job.protocol.refit
    with pytest.raises(ValueError, match="would refit on the validation images"):
        run_trial(replace(job, planned=default.cells[0]), timed=False)
