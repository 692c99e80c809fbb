"""The analysis `external`: a model answered on another site's images, beside its own test set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.analyses.external.classes import class_table, own_labels
from bench.analyses.external.settings import ExternalSettings
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.averages import columns_of, plain
from bench.analyses.support.calibrators import fit_temperature
from bench.analyses.support.intervals import unit_notes
from bench.analyses.support.parts import tested_part, validation_part
from bench.core.errors import UserError
from bench.data import registry as datasets
from bench.data.images.cache import images as cached_images
from bench.data.table import Table
from bench.measure.quality import intervals, quality
from bench.measure.statistics.clusters import clusters

Floats = NDArray[np.float64]
METRICS = ("accuracy", "balanced_accuracy", "roc_auc", "pr_auc", "log_loss", "brier", "ece")
DROPS = ("accuracy", "balanced_accuracy", "roc_auc")


@dataclass(frozen=True)
class Answers:
    """Images with the model's answers: labels [N] and probabilities [N, k] of its own classes, groups [N]."""

    labels: NDArray[np.int64]
    probabilities: Floats
    groups: NDArray[np.str_]

    def taken(self, rows: Any) -> Answers:
        """Some of the images."""
        return Answers(self.labels[rows], self.probabilities[rows], self.groups[rows])

    def measured(self, classes: tuple[str, ...]) -> dict[str, Estimate]:
        """The metrics with the intervals that a cell's own have."""
        values = quality(self.labels, self.probabilities, classes)
        bounds = intervals(self.labels, self.probabilities, self.groups, classes)
        return {name: Estimate(plain(values[name]), *map(plain, bounds[name])) for name in METRICS}


def external(cell: Any, settings: ExternalSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Quality and calibration on another dataset's images, and how much is lost against the own test set.

    Both sides are measured on the classes that the other dataset has too.

    Args:
        cell: a finished cell whose predictor answers on images.
        settings: which dataset, and how its classes are read.
        folder: nothing is written.

    Returns:
        Columns `external_FIGURE`, `external_drop_FIGURE`, and `external_ece_...` after a temperature fitted on the own
        validation part ("calibrated") and on the other half of the external images ("updated"); tables `quality`,
        `classes`.

    Raises:
        UserError: no dataset named, one that is not available, the cell's own, or classes that cannot be told.
    """
    foreign = _dataset(cell, settings)
    meant = class_table(foreign, cell.classes, cell.table.kind, settings.classes)
    labels = own_labels(foreign, cell.classes, meant)
    kept, notes = _kept(cell, foreign, labels, settings)
    size = cell.images("test").shape[1]
    probabilities = np.asarray(cell.predictor.of_images(cached_images(foreign, size)[kept]), dtype=np.float64)
    there = Answers(labels[kept], probabilities, foreign.groups[kept])
    test = tested_part(cell)
    shared = np.isin(test.labels, np.unique(there.labels))
    here = Answers(test.labels, test.probabilities, test.groups).taken(shared)
    versions, more = _versions(cell, there, settings)
    found = {"own test set": here.measured(cell.classes)}
    found |= {name: each.measured(cell.classes) for name, each in versions.items()}
    columns = _columns(found)
    rows = [
        _row(name, each, len(here.labels if name == "own test set" else there.labels)) for name, each in found.items()
    ]
    return Answer(
        columns,
        {"quality": rows, "classes": _class_rows(foreign, meant, kept)},
        notes=[*notes, *more, *_shared_note(shared), *unit_notes(there.groups)],
    )


def _dataset(cell: Any, settings: ExternalSettings) -> Table:
    if not settings.on:
        raise UserError("external: name the dataset to answer on with --on DATASET; `bench data list` names them")
    foreign = datasets.load(settings.on, cell.spec.protocol)
    if foreign.fingerprint() == cell.table.fingerprint():
        raise UserError(f"external: {settings.on} is the dataset that the cell was fitted on; name another one")
    return foreign


def _kept(
    cell: Any, foreign: Table, labels: NDArray[np.int64], settings: ExternalSettings
) -> tuple[NDArray[np.int64], list[str]]:
    """The rows of the other dataset that are answered, and what was left out."""
    wanted = labels >= 0
    notes = (
        [f"{int((~wanted).sum())} images of classes that the model has not are left out"] if not wanted.all() else []
    )
    if settings.without_overlap:
        seen = overlap(cell.table, foreign)
        notes.append(f"{int(seen.sum())} of {len(foreign)} images are pictures of the cell's own dataset: left out")
        wanted = wanted & ~seen
    if not wanted.any():
        raise UserError(f"external: no image of {foreign.name} is left to answer on")
    notes.append(f"answered on {int(wanted.sum())} images of {foreign.name}")
    return np.flatnonzero(wanted), notes


def overlap(own: Table, foreign: Table) -> NDArray[np.bool_]:
    """Whether each image of another dataset shows the same picture as one of the own, by the audit's comparison."""
    from bench.data.audit.duplicates import same_pictures, signatures

    seen = np.zeros(len(foreign), dtype=np.bool_)
    seen[[match.right for match in same_pictures(signatures(own), signatures(foreign))]] = True
    return seen


def _versions(cell: Any, there: Answers, settings: ExternalSettings) -> tuple[dict[str, Answers], list[str]]:
    """The external answers as they are, after the own validation part's temperature, and after one of their own."""
    versions = {"external": there}
    val, notes = validation_part(cell)
    fitted = None if val is None else fit_temperature(val.labels, val.probabilities)
    if fitted is None:
        notes = [*notes, "no temperature could be fitted on validation"]
    else:
        versions["external, calibrated"] = Answers(there.labels, fitted.apply(there.probabilities), there.groups)
    updated = cross_fitted(there, settings.seed)
    if updated is None:
        notes = [*notes, "no temperature could be fitted on halves of the external images"]
    else:
        versions["external, updated"] = Answers(there.labels, updated, there.groups)
    return versions, notes


def cross_fitted(given: Answers, seed: int) -> Floats | None:
    """Probabilities by a temperature that was fitted on the half of the groups to which an image does not belong.

    Returns:
        None where a half has no temperature.
    """
    codes = clusters(given.groups)[0]
    order = np.random.default_rng(seed).permutation(int(codes.max()) + 1)
    half = order[codes] % 2 == 0
    found = np.empty_like(given.probabilities)
    for mine in (half, ~half):
        other = given.taken(~mine)
        fitted = fit_temperature(other.labels, other.probabilities) if len(other.labels) else None
        if fitted is None:
            return None
        found[mine] = fitted.apply(given.probabilities[mine])
    return found


def _columns(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
    here, there = found["own test set"], found["external"]
    columns = {f"external_{name}": there[name] for name in METRICS}
    columns |= {f"external_drop_{name}": difference(here[name], there[name]) for name in DROPS}
    for version in ("calibrated", "updated"):
        measured = found.get(f"external, {version}")
        columns |= {
            f"external_{name}_{version}": measured[name] if measured else Estimate(None) for name in ("ece", "log_loss")
        }
    return columns


def difference(first: Estimate, second: Estimate) -> Estimate:
    """First less second, of independent images, with the interval that their two intervals make.

    Newcombe's (1998) square-and-add, generalised by Zou and Donner (2008): the bounds' distances are added in squares.
    """
    if first.value is None or second.value is None:
        return Estimate(None)
    value = first.value - second.value
    bounds = (first.low, first.high, second.low, second.high)
    if any(each is None for each in bounds):
        return Estimate(value)
    low, high, other_low, other_high = (float(each) for each in bounds if each is not None)
    return Estimate(
        value,
        value - math.hypot(first.value - low, other_high - second.value),
        value + math.hypot(high - first.value, second.value - other_low),
    )


def _row(name: str, measured: Mapping[str, Estimate], images: int) -> dict[str, Any]:
    row: dict[str, Any] = {"images_of": name, "images": images}
    for metric, found in measured.items():
        row |= columns_of(metric, found)
    return row


def _class_rows(foreign: Table, meant: Mapping[str, str | None], kept: NDArray[np.int64]) -> list[dict[str, Any]]:
    counts = np.bincount(foreign.labels[kept], minlength=len(foreign.classes))
    return [
        {"class": name, "read_as": meant[name] or "left out", "images": int(counts[number])}
        for number, name in enumerate(foreign.classes)
    ]


def _shared_note(shared: NDArray[np.bool_]) -> list[str]:
    left = int((~shared).sum())
    return [f"{left} own test images are of classes that the other dataset has not: left out"] if left else []
