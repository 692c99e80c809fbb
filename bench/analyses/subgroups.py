"""Subgroups: is the model as good for the old as for the young, for women as for men, at every site?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.characteristics import UNKNOWN, CharacteristicsSettings, characteristics
from bench.analyses.support.intervals import Resamples, Statistics, proportion, resample, unit_notes
from bench.analyses.support.parts import Predicted, one_class_note, one_hot, tested_part
from bench.analyses.support.utility import ratio

Floats = NDArray[np.float64]
Texts = NDArray[np.str_]
Metric = Literal["accuracy", "balanced_accuracy"]
METRICS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy")


class SubgroupsSettings(CharacteristicsSettings):
    """Settings of `subgroups`.

    Attributes:
        smallest: a subgroup of fewer test images is listed, but neither measured nor compared.
        smallest_groups: nor is one of fewer patients (or lesions, or images where no group is known).
        smallest_class: balanced accuracy is left out where one of the test set's classes has fewer images.
    """

    smallest: int = Field(30, ge=2)
    smallest_groups: int = Field(10, ge=2)
    smallest_class: int = Field(5, ge=1)


def subgroups(cell: Any, settings: SubgroupsSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Accuracy and balanced accuracy by site, age band, sex and anatomy, and the largest gap of each.

    Args:
        cell: gives `predictions("test")` and `table`.
        settings: which characteristics, and which subgroups are too small.
        folder: nothing is written.

    Returns:
        Columns `subgroups_gap_CHARACTERISTIC` (accuracy) and `subgroups_balanced_gap_CHARACTERISTIC`; tables `groups`
        and `gaps`.
    """
    test = tested_part(cell)
    known, notes = characteristics(cell, test, settings)
    columns: dict[str, Estimate] = {}
    groups: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    for by in dict.fromkeys(("site", *settings.by)):
        found, rows = _measured(test, known.get(by), by, settings)
        groups += rows
        for metric in METRICS:
            gap = largest_gap(found, [row["group"] for row in rows if row[metric] is not None], metric)
            columns[f"subgroups_{'gap' if metric == 'accuracy' else 'balanced_gap'}_{by}"] = gap.estimate
            gaps.append({"by": by, "metric": metric, "best": gap.best, "worst": gap.worst, "gap": gap.estimate.value,
                         "low": gap.estimate.low, "high": gap.estimate.high})  # fmt: skip
        notes += _notes(by, rows, gaps[-len(METRICS) :])
    notes = notes + one_class_note(test, "test") + unit_notes(test.groups)
    return Answer(columns, {"groups": groups, "gaps": gaps}, notes=notes)


def _measured(
    test: Predicted, values: Texts | None, by: str, settings: SubgroupsSettings
) -> tuple[Resamples, list[dict[str, Any]]]:
    """The resamples of every subgroup that is large enough, and a row each, small ones without metrics."""
    nothing = Resamples({}, {}, "none")
    if values is None:
        return nothing, []
    masks = {str(name): values == name for name in np.unique(values)}
    large = {name: mask for name, mask in masks.items() if name != UNKNOWN and _large(test, mask, settings)}
    found = (
        resample(subgroup_quality(test, large, settings.smallest_class), test.groups, settings) if large else nothing
    )
    return found, [_row(test, by, name, mask, found if name in large else nothing) for name, mask in masks.items()]


def _large(test: Predicted, mask: NDArray[np.bool_], settings: SubgroupsSettings) -> bool:
    return int(mask.sum()) >= settings.smallest and _independent(test.groups[mask]) >= settings.smallest_groups


def _independent(groups: Texts) -> int:
    """How many groups there are; an image without one stands for itself."""
    return len(np.unique(groups[groups != ""])) + int((groups == "").sum())


def subgroup_quality(test: Predicted, masks: dict[str, NDArray[np.bool_]], smallest_class: int) -> Statistics:
    """ "NAME accuracy" and "NAME balanced_accuracy" of subgroups under image weights.

    Balanced accuracy is NaN for a subgroup with fewer than `smallest_class` images of one of the test set's classes:
    without them it is not comparable, and with one or two it rests on them and does not even vary over resamples.

    Args:
        test: the part.
        masks: whether each image belongs [N], by subgroup.
        smallest_class: images of each class that balanced accuracy needs.
    """
    right = (test.probabilities.argmax(axis=1) == test.labels).astype(np.float64)
    held = np.unique(test.labels)
    truth = one_hot(test.labels, len(test.classes))[:, held]
    whole = {name: bool((truth[mask].sum(axis=0) >= smallest_class).all()) for name, mask in masks.items()}

    def statistics(weights: Floats) -> dict[str, Floats]:
        found = {}
        for name, mask in masks.items():
            mine = weights * mask
            support, hits = mine @ truth, mine @ (truth * right[:, None])
            found[f"{name} accuracy"] = ratio(hits.sum(axis=1), support.sum(axis=1))
            recalls = ratio(hits, support) if whole[name] else np.full(hits.shape, np.nan)
            found[f"{name} balanced_accuracy"] = recalls.mean(axis=1)
        return found

    return statistics


def _row(test: Predicted, by: str, name: str, mask: NDArray[np.bool_], found: Resamples) -> dict[str, Any]:
    row: dict[str, Any] = {"by": by, "group": name, "images": int(mask.sum()),
                           "groups": _independent(test.groups[mask]), "shown": bool(found.values)}  # fmt: skip
    right = test.probabilities.argmax(axis=1) == test.labels
    exact = proportion(right[mask], test.groups[mask]) if found.values else Estimate(None)
    balanced = found.estimate(f"{name} balanced_accuracy") if found.values else Estimate(None)
    for metric, value in zip(METRICS, (exact, balanced), strict=True):
        row |= {metric: value.value, f"{metric}_low": value.low, f"{metric}_high": value.high}
    return row


@dataclass(frozen=True)
class Gap:
    """The largest gap: its estimate and the names of the best and the worst subgroup."""

    estimate: Estimate
    best: str | None = None
    worst: str | None = None


def largest_gap(found: Resamples, names: list[str], metric: Metric) -> Gap:
    """The best subgroup minus the worst, with an interval that counts the picking.

    The best and the worst of several are picked by what they show, so their difference is above zero even where all are
    equally good. The interval holds for all pairs at once: the gap plus and minus the 95th percentile of the range of
    the subgroups' deviations over the resamples. It begins at 0 where no two of them differ significantly.

    Args:
        found: the subgroups' metrics on each resample, "NAME METRIC".
        names: the subgroups that are compared; fewer than two give None.
        metric: accuracy or balanced_accuracy.
    """
    if len(names) < 2:
        return Gap(Estimate(None))
    values = np.array([found.values[f"{name} {metric}"] for name in names])
    best, worst = int(values.argmax()), int(values.argmin())
    gap = float(values[best] - values[worst])
    reach = _reach(found, np.stack([found.samples[f"{name} {metric}"] for name in names])) if found.samples else None
    bounds = (None, None) if reach is None else (max(0.0, gap - reach), min(1.0, gap + reach))
    return Gap(Estimate(gap, *bounds), names[best], names[worst])


def _reach(found: Resamples, samples: Floats) -> float | None:
    """The 95th percentile of the range of deviations of subgroups [G, B]; None where nothing varies."""
    kept = samples[:, np.all(np.isfinite(samples), axis=0)]
    deviations = kept - kept.mean(axis=1, keepdims=True)
    if found.method != "bootstrap" or kept.shape[1] < samples.shape[1] / 2 or np.ptp(deviations, axis=1).min() <= 1e-12:
        return None
    return float(np.percentile(np.ptp(deviations, axis=0), 95))


def _notes(by: str, rows: list[dict[str, Any]], gaps: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return [f"{by}: not known, or the same for all test images"]
    small = [row["group"] for row in rows if not row["shown"] and row["group"] != UNKNOWN]
    notes = [f"{by}: too few test images to say anything of {', '.join(small)}"] if small else []
    unsure = [gap["metric"].replace("_", " ") for gap in gaps if gap["gap"] is not None and gap["low"] is None]
    if unsure:
        why = "fewer than ten independent groups, or a subgroup without an error"
        notes.append(f"{by}: the gap in {' and in '.join(unsure)} has no interval ({why})")
    return notes
