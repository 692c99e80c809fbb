"""Images trained a second: of training alone, by what was trained."""

from __future__ import annotations

import pytest

from bench.measure.throughput import train_images_per_s


def test_it_is_the_median_of_the_rows_that_tell() -> None:
    rows = [
        {"images_trained": 60, "seconds_training": 2.0, "seconds": 9.0},
        {"images_trained": 30, "seconds_training": 0.5, "seconds": 9.0},
        {"images_trained": 40, "seconds_training": 1.0, "seconds": 9.0},
        {"images_trained": 0, "seconds_training": 0.0, "seconds": 9.0},
        {"seconds": 1.0},
    ]
    assert train_images_per_s(rows) == {"train_images_per_s": pytest.approx(40.0)}


@pytest.mark.parametrize("rows", [[], [{"seconds": 2.0}], [{"images_trained": 0, "seconds_training": 0.0}]])
def test_without_metrics_there_is_no_column(rows: list[dict[str, float]]) -> None:
    assert train_images_per_s(rows) == {}
