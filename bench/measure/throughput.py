"""Images trained a second, from a fit's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

IMAGES, SECONDS = "images_trained", "seconds_training"
"""Columns of a history's row: images that steps were taken on, and the seconds of those steps, loading included."""


def train_images_per_s(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The column of the median row, of an epoch, a round or a client; nothing where no row tells both values.

    Validation, aggregation and what is sent are in neither value. Clients' seconds are added up.
    """
    rates = [row[IMAGES] / row[SECONDS] for row in history if row.get(IMAGES) and row.get(SECONDS)]
    return {"train_images_per_s": float(np.median(rates))} if rates else {}
