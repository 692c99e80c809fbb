"""How often the 95 % intervals of a cell, and of the difference of two models, hold the truth when groups are few.

Usage: python benchmarks/interval_coverage.py [--simulations 500]

Patients move together: each has a hardness of its own (intra-class correlation of a right answer about 0.15). Sizes
"equal": 12 images a patient; "unequal": log-normal, 1 to 80, median 9. "mixed": a patient has images of all three
classes; "one class": of one (a tumour), every class has two patients or more. The truth is
the value of 20,000 patients.

Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from bench.measure.quality import intervals, quality
from bench.measure.statistics.pooled import Paired, difference

Floats = NDArray[np.float64]
GROUPS = (5, 9, 12, 30, 60)
CLASSES = ("a", "b", "c")
METRICS = ("accuracy", "balanced_accuracy", "roc_auc")
SKILLS = {"about 78 %": 2.0, "about 95 %": 3.5}
HARDNESS = 0.7


def drawn(random: np.random.Generator, groups: int, unequal: bool, one_class: bool, skill: float) -> Paired:
    """Two models of equal skill on one test set."""
    sizes = np.full(groups, 12)
    if unequal:
        sizes = np.clip(np.rint(np.exp(random.normal(2.2, 0.8, groups))), 1, 80).astype(np.int64)
    patient = np.repeat(np.arange(groups), sizes)
    labels = _of_patients(random, groups)[patient] if one_class else random.integers(0, 3, patient.size)
    if np.unique(labels).size < 3:
        return drawn(random, groups, unequal, one_class, skill)
    common = HARDNESS * random.normal(size=groups)[patient]
    shares = [_probabilities(random, labels, patient, common + skill) for _ in range(2)]
    return Paired(np.arange(labels.size).astype(str), patient.astype(str), labels, shares[0], shares[1])


def _of_patients(random: np.random.Generator, groups: int) -> NDArray[np.int64]:
    """A class for each patient; with six patients or more each class has two at least."""
    first = np.tile(np.arange(3), 2)[:groups]
    return random.permutation(np.r_[first, random.integers(0, 3, groups - first.size)])


def _probabilities(
    random: np.random.Generator, labels: NDArray[np.int64], patient: NDArray[np.int64], skill: Floats
) -> Floats:
    logits = random.normal(size=(labels.size, 3)) + HARDNESS * random.normal(size=(patient.max() + 1, 3))[patient]
    logits[np.arange(labels.size), labels] += skill
    shares = np.exp(1.5 * logits)
    normalized: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalized


def measure(groups: int, unequal: bool, one_class: bool, skill: str, simulations: int) -> dict[str, object]:
    """Coverage and mean width by metric, of cells and of differences; one that is not defined covers nothing."""
    large = drawn(np.random.default_rng(0), 20_000, unequal, one_class, SKILLS[skill])
    truth = quality(large.labels, large.first, CLASSES)
    random = np.random.default_rng([groups, int(unequal), int(one_class), len(skill)])
    held: dict[str, list[bool]] = {f"{kind} {name}": [] for kind in ("cell", "difference") for name in METRICS}
    widths: dict[str, list[float]] = {name: [] for name in held}
    for _ in range(simulations):
        part = drawn(random, groups, unequal, one_class, SKILLS[skill])
        bounds = intervals(part.labels, part.first, part.groups, CLASSES)
        for name in METRICS:
            step = difference(name, [part], CLASSES)
            for kind, (low, high), true in (
                ("cell", bounds[name], truth[name]),
                ("difference", (step.low, step.high), 0.0),
            ):
                held[f"{kind} {name}"].append(low <= true <= high)
                widths[f"{kind} {name}"].append(high - low)
    return {
        "groups": groups, "sizes": "unequal" if unequal else "equal", "patients": "one class" if one_class else "mixed",
        "accuracy": skill, "coverage": {name: round(float(np.mean(values)), 3) for name, values in held.items()},
        "width": {name: round(float(np.nanmean(values)), 3) for name, values in widths.items()},
    }  # fmt: skip


def main() -> None:
    """Simulate every setting, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--simulations", type=int, default=500)
    asked = parser.parse_args()
    rows = [
        measure(groups, unequal, one_class, skill, asked.simulations)
        for skill in SKILLS
        for groups in GROUPS
        for unequal in (False, True)
        for one_class in (False, True)
    ]
    print(json.dumps({"simulations": asked.simulations, "settings": rows}, indent=1))


if __name__ == "__main__":
    main()
