"""The centralized twin sees as many images as the federated fit is expected to, and nothing of the validation part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from federated.simulation.fit import fit, twin
from federated.simulation.passes import expected_steps, passes_of, twin_protocol
from models.recipes.context import FitContext

Make = Callable[..., FitContext]


@pytest.mark.parametrize(
    ("fields", "expected", "epochs"),
    [
        # 60 images, five clients of 12, batches of 8: a client's pass is a step of 8 images, a whole pass 56 images.
        ({"local_epochs": 1}, 7 * 5 * 8, 5),
        ({"local_epochs": 3}, 7 * 5 * 8 * 3, 15),
        ({"local_steps": 4}, 7 * 5 * 8 * 4, 20),
        ({"local_steps": 4, "participation": 0.4}, 7 * 2 * 8 * 4, 8),
        ({"local_steps": 4, "participation": 0.1}, 7 * 1 * 8 * 4, 4),
        ({"local_steps": 4, "dropout_rate": 0.5}, 7 * 5 * 8 * 4 / 2, 10),
        # of 4 steps a straggler takes 1, 2, 3 or 4 with equal chances: 2.5
        ({"local_steps": 4, "straggler_rate": 0.5}, 7 * 5 * 8 * (0.5 * 4 + 0.5 * 2.5), 16),
        ({"rounds": 1, "participation": 0.2}, 8, 1),
    ],
)
def test_the_twin_sees_the_images_that_the_clients_see(
    make_context: Make, fields: dict[str, Any], expected: float, epochs: int
) -> None:
    context = make_context("twin", protocol={"epochs": 7, "early_stopping_patience": 7}, **fields)
    passes = passes_of(context)
    assert passes.expected == pytest.approx(expected)
    assert passes.epochs == epochs
    assert passes.seen == epochs * 56
    outcome = twin(context)
    assert len(outcome.history) <= epochs
    assert any(f"{epochs} passes" in note and f"train on {expected:.0f}" in note for note in outcome.notes)


def test_the_patience_is_scaled_alike(make_context: Make) -> None:
    context = make_context("twin", protocol={"epochs": 40, "early_stopping_patience": 10}, local_epochs=2)
    passes = passes_of(context)
    assert (passes.epochs, passes.patience) == (round(40 * 80 / 56), round(10 * 80 / 56))


def test_the_twin_never_refits(make_context: Make) -> None:
    context = make_context("twin", protocol={"refit": True})
    assert twin_protocol(context.protocol, passes_of(context)).refit is False
    outcome = twin(context)
    assert "refit_epochs" not in outcome.columns
    assert not any("validation images" in note for note in outcome.notes)


def test_a_straggler_takes_half_and_half_a_step() -> None:
    assert expected_steps(4, 0.0) == 4
    assert expected_steps(4, 1.0) == (1 + 2 + 3 + 4) / 4
    assert expected_steps(1, 0.7) == 1


def test_the_clients_trained_on_what_was_expected_of_them(make_context: Make) -> None:
    """Without a draw in it the expectation is the metric itself, clients of different sizes included."""
    context = make_context("fedavg", images=90, partition="quantity", alpha=0.5, local_steps=3)
    trained = sum(row["images_trained"] for row in fit(context).history)
    assert trained == passes_of(context).expected
