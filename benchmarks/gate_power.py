"""How often `bench check` cries wolf, and how often it sees a planted loss, on stored predictions of a real test set.

Usage: python benchmarks/gate_power.py RUN [--resamplings 500] [--images 600] [--loss 0.03]

RUN holds two trainings (seeds) of one model on one test set (an author's split, say). A resampling draws images with
replacement. Since two trainings never are exactly equally good, each image's two predictions are dealt to "base" and
"now" by chance: that is the null hypothesis with the real disagreement of two trainings. The planted loss turns that
share of the images, rightly predicted ones of "now", into wrong ones (their two highest probabilities change places).

Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.identity import digest
from bench.gate.baseline import Images, Side, SideCell, load_side
from bench.gate.check import ALPHA, Check, hold
from bench.gate.margins import Margins
from bench.measure.quality import intervals, quality
from bench.measure.statistics.paired import Z95, sign_flip

Floats = NDArray[np.float64]
CELL = "resampled"


@dataclass(frozen=True)
class Trainings:
    """Two trainings on one test set: labels [N], two probability tables [N, k], the classes."""

    labels: NDArray[np.int64]
    first: Floats
    second: Floats
    classes: tuple[str, ...]


def trainings(run: Path) -> Trainings:
    """The first two cells of a run whose test images are the same."""
    cells = [cell for cell in load_side(run).cells.values() if cell.images is not None]
    for place, one in enumerate(cells):
        for two in cells[place + 1 :]:
            a, b = one.images, two.images
            if a is not None and b is not None and a.ids_digest == b.ids_digest and a.labels is not None:
                assert a.probabilities is not None
                assert b.probabilities is not None
                return Trainings(a.labels, a.probabilities, b.probabilities, one.classes)
    raise UserError(f"{run} has no two cells with the same test images")


def side(labels: NDArray[np.int64], shares: Floats, classes: tuple[str, ...], with_intervals: bool) -> Side:
    """One side of a check, as `load_side` would read it."""
    ids = np.array([f"{index:06d}" for index in range(labels.size)])
    bounds = intervals(labels, shares, ids, classes) if with_intervals else {}
    cell = SideCell(
        metrics=quality(labels, shares, classes),
        classes=classes,
        errors={name: (high - low) / (2 * Z95) for name, (low, high) in bounds.items()},
        images=Images(digest(labels.tolist()), shares.argmax(axis=1), ids, ids, labels, shares),
    )
    return Side({CELL: cell}, has_probabilities=True)


def resampled(given: Trainings, images: int, random: np.random.Generator) -> Trainings:
    """Images drawn with replacement, each one's two predictions dealt by chance."""
    drawn = random.integers(0, given.labels.size, images)
    swap = random.random(images)[:, None] < 0.5
    one, two = given.first[drawn], given.second[drawn]
    return replace(given, labels=given.labels[drawn], first=np.where(swap, two, one), second=np.where(swap, one, two))


def with_loss(given: Trainings, share: float, random: np.random.Generator) -> Trainings:
    """The second training with that share of all images turned from right to wrong."""
    right = np.flatnonzero(given.second.argmax(axis=1) == given.labels)
    turned = random.choice(right, round(share * given.labels.size), replace=False)
    worse = given.second.copy()
    order = np.argsort(worse[turned], axis=1)
    top, next_best = order[:, -1], order[:, -2]
    worse[turned, top], worse[turned, next_best] = given.second[turned, next_best], given.second[turned, top]
    # A tie between the two highest would leave the decision as it was.
    worse[turned, next_best] += 1e-9
    return replace(given, second=worse / worse.sum(axis=1, keepdims=True))


def outcome(given: Trainings, kept: str) -> tuple[int, dict[str, str]]:
    """Exit code and outcomes of a check. kept: "predictions" on both sides, or "decisions" (a baseline file)."""
    files = kept == "decisions"
    base = side(given.labels, given.first, given.classes, files)
    now = side(given.labels, given.second, given.classes, files)
    if files:
        images = base.cells[CELL].images
        assert images is not None
        bare = Images(images.ids_digest, images.decisions)
        base = Side({CELL: replace(base.cells[CELL], images=bare)}, has_probabilities=False)
    found = Check("now", "base", hold(base, now, Margins()))
    tested = {verdict.metric: verdict.outcome for verdict in found.verdicts if not verdict.metric.endswith("_m")}
    return int("worse" in tested.values()), tested


def exact_p(given: Trainings) -> float:
    """One-sided p of the exact test of the accuracy, the most that a check of the accuracy alone could use."""
    right = [(shares.argmax(axis=1) == given.labels).astype(int) for shares in (given.second, given.first)]
    return sign_flip(right[0] - right[1])[1]


def theoretical_power(discordance: float, loss: float, images: int) -> float:
    """Of one one-sided 5 % test of the accuracy alone, by the normal approximation."""
    error = math.sqrt((discordance + loss - loss**2) / images)
    return 0.5 * math.erfc((1.6448536269514722 - loss / error) / math.sqrt(2))


def measure(given: Trainings, resamplings: int, images: int, loss: float, kept: str) -> dict[str, object]:
    """Rates over the resamplings, with the 95 % error of a rate."""
    random = np.random.default_rng(0)
    false_alarms, discordant = 0, []
    caught = {"any metric": 0, "accuracy": 0, "one exact test of the accuracy alone": 0}
    outcomes: Counter[str] = Counter()
    for _ in range(resamplings):
        pair = resampled(given, images, random)
        discordant.append(np.mean((pair.first.argmax(1) == pair.labels) != (pair.second.argmax(1) == pair.labels)))
        alarm, tested = outcome(pair, kept)
        false_alarms += alarm
        outcomes.update(f"{metric}: {value}" for metric, value in tested.items())
        lossy = with_loss(pair, loss, random)
        alarm, tested = outcome(lossy, kept)
        caught["any metric"] += alarm
        caught["accuracy"] += tested["accuracy"] == "worse"
        caught["one exact test of the accuracy alone"] += exact_p(lossy) < ALPHA
    rate = float(np.mean(discordant))
    return {
        "kept": kept, "resamplings": resamplings, "images": images, "planted_loss": loss,
        "false_alarm_rate": false_alarms / resamplings,
        "caught_by": {name: count / resamplings for name, count in caught.items()},
        "rate_error_95": 1.96 * math.sqrt(0.25 / resamplings), "discordance_of_two_trainings": rate,
        "power_of_one_one_sided_test": theoretical_power(rate, loss, images), "outcomes_without_loss": dict(outcomes),
    }  # fmt: skip


def main() -> None:
    """Read the run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("--resamplings", type=int, default=500)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--loss", type=float, default=0.03)
    asked = parser.parse_args()
    given = trainings(asked.run)
    found = [measure(given, asked.resamplings, asked.images, asked.loss, kept) for kept in ("predictions", "decisions")]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
