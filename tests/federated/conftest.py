"""Small federations: a linear model and a small network with dropout and BatchNorm, on drawn numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bench.core.config import Federation, Protocol, Runtime
from bench.data.loader import Part
from bench.data.registry import load as load_dataset
from bench.harness.cell import context_of
from bench.harness.inputs import CellJob, cell_data, preparation
from bench.harness.networks import initial_network
from bench.harness.plan import plan_cell
from bench.store.layout import BEST, LAST
from federated.deployment.task import Task
from federated.server import checkpoint
from federated.server.checkpoint import Progress
from federated.simulation.cell import Simulation
from federated.simulation.fit import fit
from models.recipes.batches import Preparation
from models.recipes.context import FitContext, FitData
from models.registry import MODELS
from models.weights.initial import Normalization, resolve

FEATURES, CLASSES = 6, 3


class Tiny(nn.Module):
    """A network whose head alone is trained, on inputs [N, 6, 1, 1]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        layers: dict[str, list[nn.Module]] = {
            "linear": [nn.Flatten(), nn.Linear(FEATURES, CLASSES)],
            "norm": [
                nn.Flatten(),
                nn.Dropout(0.3),
                nn.Linear(FEATURES, 8),
                nn.ReLU(),
                nn.BatchNorm1d(8),
                nn.Linear(8, CLASSES),
            ],
        }
        self.head = nn.Sequential(*layers[kind])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(inputs)
        return logits


def make_part(count: int, seed: int, groups: int | None = None) -> Part:
    """Drawn features whose class is (noisily) the largest of the first three."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(count, FEATURES, 1, 1)).astype(np.float32)
    labels = (inputs[:, :CLASSES, 0, 0] + random.normal(0, 0.3, (count, CLASSES))).argmax(1).astype(np.int64)
    names = np.array([f"{seed}-{i}" for i in range(count)])
    owners = np.array([f"g{seed}-{i % (groups or count)}" for i in range(count)])
    return Part(inputs, np.arange(count), labels, names, owners, np.array([""] * count))


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., FitContext]:
    """A fit's context by the regime's name and the federation's fields."""
    made = []

    def make(
        regime: str = "fedavg",
        *,
        kind: str = "norm",
        images: int = 60,
        protocol: dict[str, Any] | None = None,
        **fields: Any,
    ) -> FitContext:
        torch.manual_seed(5)
        made.append(regime)
        folder = tmp_path / f"cell-{len(made)}"
        folder.mkdir()
        recipe = {"epochs": 3, "batch_size": 8, "tuning": "head", "augmentation": "none", **(protocol or {})}
        return FitContext(
            network=Tiny(kind),  # type: ignore[arg-type]
            model=MODELS.get("linear@mobilenet_v2"),
            classes=("a", "b", "c"),
            image_size=32,
            protocol=Protocol(**recipe, federated=Federation(**fields)),
            regime=regime,
            data=FitData(make_part(images, 1), make_part(30, 2)),
            prepare=Preparation(Normalization((0.0,) * 3, (1.0,) * 3), "", torch.device("cpu"), False),
            data_seed=11,
            fit_seed=22,
            folder=folder,
            device=torch.device("cpu"),
        )

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on two threads, and sums differ with their number."""
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Simulated:
    """What a simulation left: the last round's state, and the chosen weights by name."""

    progress: Progress
    best: dict[str, torch.Tensor]


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., Simulated]:
    """Runs a rehearsal's cell as `bench run` does, without its test metrics; `answered` loses clients by round."""

    def run(task: Task, answered: list[set[int]] | None = None) -> Simulated:
        folder = tmp_path / "simulated"
        folder.mkdir()
        device, table = torch.device("cpu"), load_dataset(task.cohort, task.protocol)
        weights = resolve(task.protocol.weights, MODELS.get(task.model))
        job = CellJob(plan_cell(task.cell, table, weights), table, folder, Runtime(device="cpu", threads=1))
        network = initial_network(job.planned, len(table.classes), device)
        data = cell_data(job.source, network, preparation(job.source, device))
        context = context_of(job, network, data.fit, device)
        with pytest.MonkeyPatch.context() as patch:
            if answered is not None:
                patch.setattr(
                    Simulation, "drops", lambda _, number, one: number > 0 and one not in answered[number - 1]
                )
            fit(context)
        progress = checkpoint.load(folder / LAST, Simulation.of(context).start())
        return Simulated(progress, load_file(folder / BEST))

    return run
