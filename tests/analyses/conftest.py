"""Finished cells made by hand: stored predictions and a table; phantom images and a small network of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.errors import UserError
from bench.data.phantom import datasets as phantoms


@dataclass(frozen=True)
class FakePredictions:
    ids: np.ndarray
    groups: np.ndarray
    sites: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class FakeTable:
    ids: np.ndarray
    metadata: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class FakeCell:
    test: FakePredictions
    val: FakePredictions | None = None
    metadata: dict[str, np.ndarray] = field(default_factory=dict)

    def predictions(self, part: str = "test") -> FakePredictions:
        if part == "test":
            return self.test
        if self.val is None:
            raise UserError("the cell has no validation part")
        return self.val

    @property
    def table(self) -> FakeTable:
        return FakeTable(self.test.ids, self.metadata)


def part(labels, probabilities, groups=None, sites=None, classes=None) -> FakePredictions:
    """Predictions by hand; two columns from a vector; every image without a group unless named."""
    labels, shares = np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if shares.ndim == 1:
        shares = np.stack([1 - shares, shares], axis=1)
    ids = np.array([f"i{number:05}" for number in range(labels.size)])
    names = tuple("abcdefg"[: shares.shape[1]]) if classes is None else classes
    blank = np.full(labels.size, "")
    return FakePredictions(
        ids,
        blank if groups is None else np.asarray(groups).astype(str),
        blank if sites is None else np.asarray(sites).astype(str),
        labels,
        shares,
        names,
    )


def drawn(seed: int, size: int, classes: int = 3, sharpness: float = 1.0, per_group: int = 1) -> FakePredictions:
    """Labels drawn from probabilities, which are then made `sharpness` times as sure; calibrated at 1."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (size, classes))
    true = softmax(logits)
    labels = (generator.uniform(size=size)[:, None] > np.cumsum(true, axis=1)).sum(axis=1).clip(0, classes - 1)
    groups = np.array([f"p{number // per_group}" for number in range(size)])
    return part(labels, softmax(logits * sharpness), groups)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """What cells are made of: `cell(test, val, metadata)`, `part(...)`, `drawn(...)`, `softmax`."""
    return SimpleNamespace(cell=FakeCell, part=part, drawn=drawn, softmax=softmax)


class SmallNetwork(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))

    def forward(self, images):
        return self.head(self.backbone(images))


def prepare(images):
    return (torch.from_numpy(np.array(images)).movedim(-1, 1).float() / 255 - 0.45) / 0.25


def finished_cell(kind="skin", size=32, images=40, with_network=True, epochs=150):
    table = {"skin": phantoms.skin, "brain": phantoms.brain}[kind](images, size)
    read = [table.images.read(row) for row in range(len(table))]
    pixels = np.stack([each if each.ndim == 3 else np.repeat(each[..., None], 3, 2) for each in read])
    torch.manual_seed(0)
    network = SmallNetwork(len(table.classes))
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(prepare(pixels)), torch.from_numpy(table.labels)).backward()
        optimizer.step()
    network.eval()

    def probabilities(batches):
        with torch.no_grad():
            return torch.cat([network(batch).softmax(1) for batch in batches]).numpy()

    predictor = SimpleNamespace(probabilities=probabilities, **({"network": network} if with_network else {}))
    stored = SimpleNamespace(
        ids=table.ids,
        groups=table.groups,
        sites=table.sites,
        labels=table.labels,
        probabilities=probabilities([prepare(pixels)]).astype(np.float64),
        classes=table.classes,
    )
    return SimpleNamespace(
        key="made-up",
        classes=table.classes,
        table=table,
        predictor=predictor,
        prepare=prepare,
        predictions=lambda part="test": stored,
        images=lambda part="test": pixels,
    )


@pytest.fixture(scope="session")
def made_up_cell():
    """`finished_cell` itself: called with a kind of phantom."""
    return finished_cell
