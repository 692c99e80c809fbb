"""How often do 95 % intervals over clients hold what they are of? Printed for the mean and for the worst.

    python benchmarks/client_intervals.py

Clients whose true accuracies lie evenly between 60 and 85 %, groups (patients) of four images whose accuracies vary
around their client's by 15 points, 400 drawn test sets each.
"""

from __future__ import annotations

import numpy as np

from bench.measure.clients import accuracy_by, mean_client_interval

DRAWN, RESAMPLES, IMAGES, VARIATION = 400, 400, 4, 0.15


def group_accuracies(clients: int, groups: int, random: np.random.Generator) -> np.ndarray:
    """True accuracy of each group [clients, groups]."""
    centres = np.linspace(0.6, 0.85, clients)[:, None]
    return np.clip(centres + VARIATION * random.normal(size=(clients, groups)), 0, 1)


def worst_interval(right: np.ndarray, holders: np.ndarray, codes: np.ndarray, seed: int) -> tuple[float, float]:
    """What a bootstrap interval of the worst client would be: groups drawn with replacement."""
    random, count = np.random.default_rng(seed), int(codes.max()) + 1
    counts = random.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    rows = [np.repeat(np.arange(len(codes)), drawn[codes].astype(int)) for drawn in counts]
    worst = [min(share for _, share in accuracy_by(holders[row], right[row]).values()) for row in rows]
    low, high = np.percentile(worst, [2.5, 97.5])
    return float(low), float(high)


def coverage(clients: int, groups: int) -> tuple[float, float]:
    """Shares of drawn test sets whose interval holds the true mean, and the true worst."""
    truth = group_accuracies(clients, 100_000, np.random.default_rng(1)).mean(axis=1)
    random, hits = np.random.default_rng(0), np.zeros(2)
    codes = np.repeat(np.arange(clients * groups), IMAGES)
    holders = np.repeat([f"client {number}" for number in range(clients)], groups * IMAGES)
    for seed in range(DRAWN):
        right = random.random(len(codes)) < np.repeat(group_accuracies(clients, groups, random).ravel(), IMAGES)
        shares = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
        names = np.char.add("g", codes.astype(str))
        found = mean_client_interval(np.zeros(len(codes), np.int64), shares, holders, names, RESAMPLES, seed)
        bounds = found["mean_client_accuracy"], worst_interval(right, holders, codes, seed)
        hits += [low <= value <= high for (low, high), value in zip(bounds, (truth.mean(), truth.min()), strict=True)]
    return float(hits[0] / DRAWN), float(hits[1] / DRAWN)


if __name__ == "__main__":
    for clients, groups in ((5, 8), (5, 25), (10, 6)):
        mean, worst = coverage(clients, groups)
        print(f"{clients} clients of {groups} groups: mean {100 * mean:.1f} %, worst {100 * worst:.1f} %")
