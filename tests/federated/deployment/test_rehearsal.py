"""A rehearsed deployment against the simulation: the deployed apps' own functions, in this process and without Flower's
programs. `test_deployment.py` has the programs, TLS and keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from safetensors.torch import load_file

from bench.core.config import load_protocol
from bench.core.errors import UserError
from bench.measure.clients import VAL_CLIENT_COLUMNS
from bench.store.layout import BEST, LAST
from federated.client.app import client_app
from federated.client.client import Client
from federated.client.training import Work
from federated.deployment.apps import lead, site_client
from federated.deployment.task import Task
from federated.privacy.mechanism import epsilon
from federated.server import checkpoint
from federated.server.checkpoint import Progress
from federated.server.rounds import Rounds
from federated.settings import round_settings_of
from federated.simulation.inprocess import InProcessGrid

Simulate = Callable[..., Any]
CLASSES = ("rim", "diffuse", "midline")
SMALL = ["image_size=64", "synthetic_images=60", "batch_size=4", "federated.clients=3", "federated.rounds=2"]
WAITING = {"gather-timeout": 5.0, "round-timeout": 5.0, "minimum-sites": 0}
# Model, overrides, and the shape of a training input with the number of its augmented copies.
SETTINGS: dict[str, tuple[str, list[str], tuple[int, ...], int]] = {
    "pooled head, random weights": ("deepmedix-nodropout", [], (1280, 1, 1), 0),
    "maps, random weights": ("deepmedix", [], (1280, 2, 2), 0),
    "grown size": ("torchvision:alexnet", ["tuning=full", "image_size=32"], (64, 64, 3), 0),
    "the paper's baseline": ("inception_v3", ["tuning=full", "batch_size=8", "federated.rounds=1"], (75, 75, 3), 0),
    "feature views": ("deepmedix", ["feature_views=3"], (1280, 2, 2), 2),
    "no BatchNorm": ("squeezenet1_1", [], (512, 3, 3), 0),
}


@dataclass(frozen=True)
class Everyone:
    """A manager whose clients are all there."""

    expected: int

    def available(self) -> list[int]:
        return list(range(self.expected))


def make_task(model: str = "deepmedix", overrides: list[str] | None = None, **fields: Any) -> Task:
    protocol = load_protocol("demo", [*SMALL, *(overrides or [])])
    return Task("phantom-brain", model, "fedavg", protocol, CLASSES, 3, rehearsal=True, **fields)


def finder(task: Task, folder: Path) -> Callable[[Message, Context], Client]:
    """Makes a site's client anew for each message, as a deployment's processes do."""

    def find(_: Message, context: Context) -> Client:
        partition = int(context.node_config["partition-id"])
        return site(task, folder, partition)

    return find


def site(task: Task, folder: Path, partition: int = 0) -> Client:
    node = {"data": "phantom-brain", "partition-id": partition, "state": str(folder / f"state-{partition}")}
    return site_client(task.to_json(), tuple(sorted(node.items())))


def rehearsed(task: Task, folder: Path) -> Progress:
    grid = InProcessGrid(client_app(finder(task, folder)), task.sites)
    return lead(grid, task, folder / "out", WAITING)


def timeless(progress: Progress) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in progress.history]


@pytest.mark.parametrize(
    "setting", [pytest.param(name, marks=[pytest.mark.slow] * ("paper" in name)) for name in SETTINGS]
)
def test_a_rehearsal_is_the_simulation(
    setting: str, simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, overrides, shape, views = SETTINGS[setting]
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "simulation"))
    asked = make_task(model, overrides)
    expected = simulate(asked)
    # A cache of its own, or the sites would be handed the simulation's maps.
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "deployment"))
    task = asked.with_statistics("phantom-brain").checked()
    found = rehearsed(task, tmp_path)
    held = site(task, tmp_path).data.train_part
    assert held.inputs.shape[1:] == shape
    assert len(held.views) == views
    assert timeless(found) == timeless(expected.progress)
    assert np.array_equal(found.model.weights, expected.progress.model.weights)
    assert np.array_equal(found.model.buffers, expected.progress.model.buffers)
    best = load_file(tmp_path / "out" / BEST)
    assert best.keys() == expected.best.keys()
    # BatchNorm's counters never travel.
    assert all(torch.equal(best[name], expected.best[name]) for name in best if "tracked" not in name)


def test_statistics_that_nobody_estimated_are_refused() -> None:
    """A site would have to estimate them from its own images, and every site would hold another network."""
    with pytest.raises(UserError, match=r"needs BatchNorm statistics.*--statistics.*weights=imagenet or tuning=full"):
        make_task().checked()
    full = make_task(overrides=["tuning=full"])
    assert full.with_statistics("phantom-brain") == full.checked()


def test_a_site_with_other_statistics_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    task = make_task().with_statistics("phantom-brain")
    larger = np.frombuffer(base64.b64decode(task.statistics), "<f4") * np.float32(1.01)
    other = replace(task, statistics=base64.b64encode(larger.tobytes()).decode())
    grid = InProcessGrid(client_app(finder(other, tmp_path)), task.sites)
    with pytest.raises(UserError, match="built another network"):
        lead(grid, task, tmp_path / "out", WAITING)


def test_the_kind_of_image_is_the_dataset_s_in_a_rehearsal_and_the_task_s_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    task = make_task(overrides=["tuning=full", "image_size=32"])
    assert site(task, tmp_path).data.prepare.kind == "brain"
    assert site(replace(task, rehearsal=False), tmp_path).data.prepare.kind == "other"
    assert site(replace(task, rehearsal=False, kind="skin"), tmp_path).data.prepare.kind == "skin"
    with pytest.raises(UserError, match=r"holds images of kind brain.*leave --kind out"):
        site(replace(task, kind="skin"), tmp_path)
    with pytest.raises(UserError, match="--kind takes brain, skin, other, not 'lung'"):
        replace(task, kind="lung").checked()


def test_a_rehearsal_has_as_many_clients_as_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    task = replace(make_task(overrides=["tuning=full", "image_size=32"]), sites=4)
    with pytest.raises(UserError, match=r"federated.clients = 3 clients, and there are 4 sites: --set .*clients=4"):
        task.checked()
    with pytest.raises(UserError, match="dealt to 3 clients, and the rehearsal has 4 sites"):
        site(task, tmp_path)


PRIVATE = ["federated.batch_norm=frozen", "federated.participation=0.5"]


def private_task(kind: str) -> Task:
    return make_task("squeezenet1_1", [*PRIVATE, f"federated.privacy={kind}"])


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "status.json").read_text())
    return found


def test_a_deployment_s_poisson_sample_is_secret_and_nobody_writes_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    task = private_task("central")
    found = rehearsed(task, tmp_path)
    rows = found.history
    told = {name for row in rows for name, value in row.items() if value is not None}
    assert told == {
        *("round", "learning_rate", "update_norm", "seconds", "val_loss", "val_accuracy"),
        *VAL_CLIENT_COLUMNS,
    }
    assert list(checkpoint.load(tmp_path / "out" / LAST, Progress.start(found.model)).history) == list(rows)
    assert status(tmp_path)["history"] == list(rows)
    assert status(tmp_path)["privacy"]["epsilon"] == pytest.approx(epsilon(1.0, 0.5, 2, 1e-5))


def test_the_draw_is_the_seed_s_in_a_simulation_and_the_system_s_in_a_deployment() -> None:
    protocol = load_protocol("demo", [*PRIVATE, "federated.privacy=central"])

    def samples(system_noise: bool) -> set[tuple[int, ...]]:
        settings = round_settings_of(protocol, system_noise=system_noise)
        rounds = Rounds(None, Everyone(40), None, Work(0, seed=1), settings)  # type: ignore[arg-type]
        return {tuple(rounds._sample(3)[0]) for _ in range(5)}

    assert len(samples(system_noise=False)) == 1
    assert len(samples(system_noise=True)) == 5


def test_a_round_that_a_killed_server_repeats_is_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    task, saves = private_task("local"), []
    save = checkpoint.save

    def killed(path: Path, progress: Progress) -> None:
        saves.append(progress.round)
        if saves == [1, 2]:
            raise KeyboardInterrupt
        save(path, progress)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        rehearsed(task, tmp_path)
    assert (status(tmp_path)["round"], status(tmp_path)["privacy"]["releases"]) == (1, 2)
    rehearsed(task, tmp_path)
    assert saves == [1, 2, 2]
    assert (status(tmp_path)["round"], status(tmp_path)["privacy"]["releases"]) == (2, 3)
    assert status(tmp_path)["privacy"]["epsilon"] == pytest.approx(epsilon(0.5, 1.0, 3, 1e-5))
