"""How far an image lies from the training images in feature space, and which of them are nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import UserError
from models.evaluate import evaluated, positions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
UNLIKE = 95.0
"""An image is unlike the training images where it lies further from them than this percentage of validation images."""


@dataclass(frozen=True)
class Likeness:
    """The training images' features, of length 1 (Sun et al. 2022).

    Attributes:
        features: of the M training images [M, C].
        rows: their rows of the table [M].
        k: the distance to the k-th nearest one counts.
        limit: `UNLIKE` of the validation images lie no further than this.
    """

    features: Floats
    rows: Ints
    k: int
    limit: float

    @classmethod
    def of(cls, cell: Any, k: int) -> Likeness:
        """Of a finished cell. Raises UserError where its predictor has no network, or k is too large."""
        train = features_of(cell.predictor, cell.images("train"))
        if k >= len(train):
            raise UserError(f"the {k}-th nearest of {len(train)} training images was asked; ask for a smaller one")
        found = cls(train, cell.rows("train"), k, np.inf)
        val = found.distances(features_of(cell.predictor, cell.images("val")))
        return cls(train, found.rows, k, float(np.percentile(val, UNLIKE)))

    def nearest(self, features: Floats, count: int) -> tuple[Ints, Floats]:
        """The nearest training images of each of N images: places among the M [N, count], and distances [N, count]."""
        away = _distances(features, self.features)
        order = np.argsort(away, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(away, order, axis=1)

    def distances(self, features: Floats) -> Floats:
        """To the k-th nearest training image [N], between 0 and 2."""
        return self.nearest(features, self.k)[1][:, -1]


def _distances(first: Floats, second: Floats) -> Floats:
    """Of vectors of length 1 [N, C] and [M, C]: [N, M]."""
    squares: Floats = 2 - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))


def features_of(predictor: Any, images: NDArray[np.uint8]) -> Floats:
    """The spatial means of the backbone's map of uint8 images [N, H, W, 3], each scaled to length 1 [N, C].

    Raises:
        UserError: a predictor without a network.
    """
    network = getattr(predictor, "network", None)
    if network is None:
        raise UserError("features are those of the network, and this cell's predictor has no network")

    def pooled(batch: Tensor) -> Tensor:
        maps: Tensor = network.backbone(batch)
        return maps.flatten(2).mean(2) if maps.ndim > 2 else maps

    found = []
    for some in positions(len(images)):
        batch = predictor.prepare(np.asarray(images[some])).to(predictor.device)
        found.append(evaluated(pooled, batch, predictor.card.channels_last).cpu())
    features = torch.cat(found).double().numpy()
    scaled = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    # As they are stored, so that a distance is the same whether the training images' were computed or read.
    rounded: Floats = scaled.astype(np.float32).astype(np.float64)
    return rounded
