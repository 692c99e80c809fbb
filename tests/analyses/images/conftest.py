"""A finished cell that is made up: phantom images, a small network with a normalization, predictions of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bench.data.phantom import datasets as phantoms


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

    def of_images(images):
        return probabilities([prepare(images)])

    predictor = SimpleNamespace(
        probabilities=probabilities,
        of_images=of_images,
        prepare=prepare,
        device=torch.device("cpu"),
        card=SimpleNamespace(image_size=size, channels_last=False),
        **({"network": network} if with_network else {}),
    )
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
        rows=lambda part="test": np.arange(len(table)),
        beside=lambda field: [],
    )


@pytest.fixture(scope="session")
def made_up_cell():
    """`finished_cell` itself: called with a kind of phantom."""
    return finished_cell
