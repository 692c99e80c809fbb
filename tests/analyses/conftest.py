"""A finished cell made by hand: its stored predictions and its table."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from bench.core.errors import UserError


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
