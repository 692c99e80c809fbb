"""How often "the best is significantly better than another" is said of equal models, and how often of a better one.

Usage: python benchmarks/selection_rate.py [--simulations 300] [--images 600] [--flips 999]

Every model decides an image rightly with the same chance (85 %). "independent": models share nothing. "alike": images
differ in hardness and patients in how well a model does on them, as with models trained on the same images. Groups of
ten: a patient's images move together. The planted model is right on 3 points more of the images.

Prints one JSON document; "against the best, Holm" is the test that ignores that the best was picked.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bench.measure.statistics.paired import holm, sign_flip
from bench.measure.statistics.selection import every_pair

Floats = NDArray[np.float64]
SIZES = (5, 10, 26)
ACCURACY = 0.85
PLANTED = 0.03


def predicted(
    random: np.random.Generator, models: int, images: int, group: int, alike: bool, planted: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Right or wrong [images, models], and each image's group [images]; the first model has `planted` more right."""
    groups = np.arange(images) // group
    own, hardness, patient = (0.5, 1.0, 0.5) if alike else (1.0, 0.0, 0.5)
    patient = patient if group > 1 else 0.0
    score = own * random.normal(size=(images, models)) + hardness * random.normal(size=(images, 1))
    score += patient * random.normal(size=(groups.max() + 1, models))[groups]
    spread = math.sqrt(own**2 + hardness**2 + patient**2)
    limits = np.full(models, spread * ndtri(ACCURACY))
    limits[0] = spread * ndtri(ACCURACY + planted)
    return (score < limits).astype(np.float64), groups


def said(right: Floats, groups: NDArray[np.int64], flips: int, seed: int) -> dict[str, tuple[bool, bool]]:
    """By procedure: whether the best is called better than any other, and the first model better than all others."""
    sums = np.stack([np.bincount(groups, column) for column in right.T], axis=1)
    best = int(sums.sum(axis=0).argmax())
    others = [model for model in range(right.shape[1]) if model != best]
    exact = [sign_flip(np.rint(sums[:, best] - sums[:, other]).astype(np.int64))[0] for other in others]
    pairs = np.maximum(every_pair(sums[None], flips, seed)[best, others], exact)
    found = {"all pairs, step-down": pairs, "against the best, Holm": np.array(holm(exact))}
    return {name: (bool((p < 0.05).any()), bool(best == 0 and (p < 0.05).all())) for name, p in found.items()}


def measure(models: int, group: int, alike: bool, asked: argparse.Namespace) -> dict[str, object]:
    """Rates of one setting."""
    random = np.random.default_rng([models, group, int(alike)])
    false: dict[str, int] = {}
    found: dict[str, int] = {}
    for number in range(asked.simulations):
        for name, (any_other, _) in said(
            *predicted(random, models, asked.images, group, alike, 0.0), asked.flips, number
        ).items():
            false[name] = false.get(name, 0) + any_other
        for name, (_, all_others) in said(
            *predicted(random, models, asked.images, group, alike, PLANTED), asked.flips, number
        ).items():
            found[name] = found.get(name, 0) + all_others
    return {
        "models": models, "images a group": group, "models are": "alike" if alike else "independent",
        "false_rate": {name: count / asked.simulations for name, count in false.items()},
        "planted_best_better_than_all": {name: count / asked.simulations for name, count in found.items()},
    }  # fmt: skip


def main() -> None:
    """Simulate every setting, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--flips", type=int, default=999)
    asked = parser.parse_args()
    settings = [(models, group, alike) for models in SIZES for group in (1, 10) for alike in (False, True)]
    rows = [measure(*setting, asked) for setting in settings]
    print(json.dumps({"simulations": asked.simulations, "images": asked.images, "settings": rows}, indent=1))


if __name__ == "__main__":
    main()
