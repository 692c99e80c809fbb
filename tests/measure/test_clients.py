"""Metrics over clients, by hand and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from bench.measure.clients import accuracy_by, client_accuracy, mean_client_interval, over_clients

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
HOLDERS = np.array(["a", "a", "a", "a", "b", "b", "c", "c"])


def classified(*classes: int) -> np.ndarray:
    return np.eye(2)[list(classes)] * 0.8 + 0.1


def test_metrics_over_clients_by_hand() -> None:
    # a: 3 of 4 right, b: 1 of 2, c: 2 of 2.
    found = client_accuracy(LABELS, classified(0, 1, 0, 0, 0, 0, 0, 1), HOLDERS)
    assert found == {
        "mean_client_accuracy": pytest.approx(0.75),
        "worst_client_accuracy": 0.5,
        "p10_client_accuracy": pytest.approx(0.55),
        "client_accuracy_spread": pytest.approx(np.sqrt((0.25**2 + 0.25**2) / 3)),
        "clients_tested": 3.0,
    }


def test_one_client_has_no_spread() -> None:
    assert over_clients([0.25], ("mean", "worst", "p10", "spread")) == {
        "mean": 0.25,
        "worst": 0.25,
        "p10": 0.25,
        "spread": 0.0,
    }


def test_an_image_without_a_name_is_nobody_s() -> None:
    assert accuracy_by(["x", "", "x", "y"], [True, True, False, True]) == {"x": (2, 0.5), "y": (1, 1.0)}


def test_the_mean_s_interval_is_that_of_a_plain_loop_that_leaves_groups_out() -> None:
    random = np.random.default_rng(3)
    labels, groups = random.integers(0, 2, 120), np.array([f"g{number // 4:02}" for number in range(120)])
    holders = np.where(np.arange(120) < 60, "a", np.where(np.arange(120) < 116, "b", "c"))
    predicted = classified(*np.where(random.random(120) < 0.7, labels, 1 - labels))

    def mean(rows: np.ndarray) -> float:
        right = predicted[rows].argmax(1) == labels[rows]
        return float(np.mean([right[holders[rows] == name].mean() for name in np.unique(holders[rows])]))

    whole = mean(np.arange(120))
    left = np.array([mean(np.flatnonzero(groups != name)) for name in np.unique(groups)])
    spread = math.sqrt(29 / 30 * float(((left - whole) ** 2).sum()))
    reach = stats.t.ppf(0.975, 29) * spread / (whole * (1 - whole))
    expected = tuple(special.expit(special.logit(whole) + sign * reach) for sign in (-1, 1))
    found = mean_client_interval(labels, predicted, holders, groups, 200, 5)
    assert found == {"mean_client_accuracy": pytest.approx(expected)}


def test_one_group_tells_no_interval() -> None:
    predicted = classified(0, 1)
    (found,) = mean_client_interval(np.array([0]), predicted[:1], ["a"], ["g"], 200, 5).values()
    assert np.isnan(found).all()
