"""How often `bench check` cries wolf, and how often it sees a planted loss, on stored predictions of a real test set.

Usage: python benchmarks/gate_power.py RUN [--resamplings 500] [--lossy 200] [--images 600]

RUN holds two trainings (seeds) of one model on one test set (an author's split, say). A resampling draws images with
replacement; every cell of the grid answers those same images. Since two trainings never are exactly equally good, each
image's two predictions are dealt to "base" and "now" by chance, cell by cell: the null hypothesis with the real
disagreement of two trainings. A planted loss turns that share of the images, rightly classified ones of "now", into
wrong ones (their two highest probabilities change places), in one cell of the grid or in all.

Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.gate.baseline import Images, Side, SideCell, load_side
from bench.gate.check import hold
from bench.gate.margins import Margins
from bench.gate.verdict import Check, Verdict
from bench.measure.statistics.paired import auc
from bench.store.predictions import Predictions

Floats = NDArray[np.float64]
GRIDS = (1, 10, 50)
LOSSES = (0.03, 0.10, 0.50)


@dataclass(frozen=True)
class Trainings:
    """Two trainings on one test set: labels [N], two probability tables [N, k], the classes."""

    labels: NDArray[np.int64]
    first: Floats
    second: Floats
    classes: tuple[str, ...]


def trainings(run: Path) -> Trainings:
    """The first two cells of a run whose test images are the same."""
    cells = [(cell, cell.images.predictions) for cell in load_side(run).cells.values() if cell.images is not None]
    for place, (one, a) in enumerate(cells):
        for _, b in cells[place + 1 :]:
            if a is not None and b is not None and np.array_equal(a.ids, b.ids):
                return Trainings(a.labels, a.probabilities, b.probabilities, one.classes)
    raise UserError(f"{run} has no two cells with the same test images")


def cell(labels: NDArray[np.int64], shares: Floats, classes: tuple[str, ...]) -> SideCell:
    """One side of a cell, as `load_side` would read it of a run's folder."""
    ids = np.array([f"{index:06d}" for index in range(labels.size)])
    kept = Predictions(ids, ids, np.full(labels.size, ""), labels, shares, classes)
    images = Images("the same", shares.argmax(axis=1), kept)
    metrics = {"accuracy": float((images.decisions == labels).mean()), "roc_auc": auc(labels, shares)[0]}
    return SideCell(metrics=metrics, classes=classes, images=images)


def dealt(given: Trainings, random: np.random.Generator) -> Trainings:
    """Each image's two predictions dealt by chance."""
    swap = random.random(given.labels.size)[:, None] < 0.5
    one, two = given.first, given.second
    return replace(given, first=np.where(swap, two, one), second=np.where(swap, one, two))


def with_loss(given: Trainings, share: float, random: np.random.Generator) -> Trainings:
    """The second training with that share of all images turned from right to wrong."""
    right = np.flatnonzero(given.second.argmax(axis=1) == given.labels)
    turned = random.choice(right, min(right.size, round(share * given.labels.size)), replace=False)
    worse = given.second.copy()
    order = np.argsort(worse[turned], axis=1)
    top, next_best = order[:, -1], order[:, -2]
    worse[turned, top], worse[turned, next_best] = given.second[turned, next_best], given.second[turned, top]
    # A tie between the two highest would leave the decision as it was.
    worse[turned, next_best] += 1e-9
    return replace(given, second=worse / worse.sum(axis=1, keepdims=True))


def checked(grid: list[Trainings]) -> Check:
    """The check of a grid whose cells are these pairs."""
    names = [f"m{place} · real · official · centralized · seed 0" for place in range(len(grid))]
    base = {name: cell(one.labels, one.first, one.classes) for name, one in zip(names, grid, strict=True)}
    now = {name: cell(one.labels, one.second, one.classes) for name, one in zip(names, grid, strict=True)}
    return Check("now", "base", hold(Side(base, True), Side(now, True), Margins()))


def grids(given: Trainings, cells: int, images: int, count: int, seed: int) -> list[list[Trainings]]:
    """`count` grids of equally good sides, each on its own draw of the images."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        at = random.integers(0, given.labels.size, images)
        drawn = replace(given, labels=given.labels[at], first=given.first[at], second=given.second[at])
        made.append([dealt(drawn, random) for _ in range(cells)])
    return made


def rate(hits: list[bool]) -> dict[str, float]:
    """A share with its 95 % error."""
    share = float(np.mean(hits))
    return {"rate": share, "error_95": 1.96 * math.sqrt(max(share * (1 - share), 0.25 / len(hits)) / len(hits))}


def planted(given: list[list[Trainings]], loss: float, where: Literal["one cell", "all cells"]) -> dict[str, object]:
    """How often the loss is seen, and the power that the accuracy's own test states for it."""
    random = np.random.default_rng(1)
    seen, told, stated = [], [], []
    for grid in given:
        lossy = [
            with_loss(one, loss, random) if where == "all cells" or not place else one for place, one in enumerate(grid)
        ]
        verdicts = checked(lossy).verdicts
        mine = _about(verdicts, where, len(grid))
        seen.append(any(verdict.outcome == "worse" for verdict in verdicts))
        told.append(any(verdict.outcome == "worse" for verdict in mine))
        stated.extend(verdict.detectable or 0.0 for verdict in mine if verdict.metric == "accuracy")
    return {
        "planted": loss, "in": where, "caught": rate(seen), "caught_where_it_is": rate(told),
        "stated_to_be_found_4_of_5": float(np.median(stated)),
    }  # fmt: skip


def _about(verdicts: tuple[Verdict, ...], where: str, cells: int) -> list[Verdict]:
    pooled = where == "all cells" and cells > 1
    return [v for v in verdicts if v.cell.startswith("all" if pooled else "m0 ") and not v.metric.endswith("_m")]


def measure(given: Trainings, cells: int, asked: argparse.Namespace) -> dict[str, object]:
    """False alarms and catches on grids of so many cells."""
    quiet = grids(given, cells, asked.images, asked.resamplings, seed=0)
    alarms = [checked(grid).count("worse") > 0 for grid in quiet]
    where: tuple[Literal["one cell", "all cells"], ...] = ("one cell", "all cells") if cells > 1 else ("one cell",)
    return {
        "cells": cells, "resamplings": asked.resamplings, "images": asked.images, "false_alarms": rate(alarms),
        "losses": [planted(quiet[: asked.lossy], loss, place) for loss in LOSSES for place in where],
    }  # fmt: skip


def main() -> None:
    """Read the run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("--resamplings", type=int, default=500)
    parser.add_argument("--lossy", type=int, default=200, help="resamplings that get a planted loss")
    parser.add_argument("--images", type=int, default=600)
    asked = parser.parse_args()
    given = trainings(asked.run)
    print(json.dumps([measure(given, cells, asked) for cells in GRIDS], indent=1))


if __name__ == "__main__":
    main()
