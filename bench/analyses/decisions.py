"""Decisions: what they cost, from which threshold on they help, and what an answer is worth at a prevalence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.intervals import ResampledSettings, estimates, unit_notes
from bench.analyses.support.operating import rates, threshold_for_sensitivity, threshold_for_specificity
from bench.analyses.support.parts import Predicted, one_class_note, present, tested_part, validation_part
from bench.analyses.support.utility import average_precision, cheapest, cost_matrix, expected_cost, net_benefit
from bench.core.errors import UserError

Share = Annotated[float, Field(gt=0, lt=1)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rows = list[dict[str, Any]]
Columns = dict[str, Estimate]


class DecisionsSettings(ResampledSettings):
    """Settings of `decisions`.

    Attributes:
        classes: which to hold against the rest; all when empty.
        costs: "TRUE>PREDICTED" to a cost; a wrong decision that is not stated costs 1. "*" is any other class.
        prevalence: a class' share where the model would be used; the test set's own where it is not stated.
        specificity, sensitivity: the fixed rates for which thresholds are chosen on validation.
        threshold: where the net benefit's column is read.
        thresholds: of the decision curve.
    """

    classes: tuple[str, ...] = ()
    costs: dict[str, Cost] = Field(default_factory=dict)
    prevalence: dict[str, Share] = Field(default_factory=dict)
    specificity: Share = 0.95
    sensitivity: Share = 0.95
    threshold: Share = 0.5
    thresholds: tuple[Share, ...] = (0.01, 0.02, 0.05, *(number / 20 for number in range(2, 20)))


def decisions(cell: Any, settings: DecisionsSettings, folder: Path) -> Answer:  # noqa: ARG001
    """Expected cost, decision curves, operating points chosen on validation and predictive values on the test set.

    Args:
        cell: gives `predictions("test")` and `predictions("val")`.
        settings: costs, prevalences, rates and thresholds.
        folder: nothing is written.

    Returns:
        Columns `decisions_cost...` and, a class, `decisions_average_precision_CLASS`, `decisions_net_benefit_CLASS`,
        `decisions_sensitivity_CLASS` and `decisions_ppv_CLASS` at the fixed specificity, `decisions_specificity_CLASS`
        and `decisions_npv_CLASS` at the fixed sensitivity; tables `costs`, `decision_curve`, `operating_points`.

    Raises:
        UserError: for a class in the settings that the data set lacks.
    """
    test = tested_part(cell)
    numbers = _examined(test, settings)
    columns, costs = _costs(test, settings)
    if one_class_note(test, "test"):
        names = [name for number in numbers for name in _names(test.classes[number])]
        note = f"{one_class_note(test, 'test')[0]}: nothing can be held against a rest"
        return Answer(columns | dict.fromkeys(names, Estimate(None)), {"costs": costs}, notes=[note])
    val, notes = validation_part(cell)
    curve: Rows = []
    points: Rows = []
    for number in numbers:
        more, rows = _curve(test, number, settings)
        chosen, found = _points(test, val, number, settings)
        columns |= more | chosen
        curve, points = curve + rows, points + found
    tables = {"costs": costs, "decision_curve": curve, "operating_points": points}
    return Answer(columns, tables, notes=notes + _notes(test, val, numbers, settings) + unit_notes(test.groups))


def _examined(test: Predicted, settings: DecisionsSettings) -> list[int]:
    for name in (*settings.classes, *settings.prevalence):
        if name not in test.classes:
            raise UserError(f"decisions: no class is called {name!r}; the data set has {', '.join(test.classes)}")
    return [test.classes.index(name) for name in settings.classes or test.classes]


def _names(name: str) -> list[str]:
    metrics = ("average_precision", "net_benefit", "sensitivity", "ppv", "specificity", "npv")
    return [f"decisions_{metric}_{name}" for metric in metrics]


def _costs(test: Predicted, settings: DecisionsSettings) -> tuple[Columns, Rows]:
    matrix = cost_matrix(settings.costs, test.classes)
    predicted = {"cost": test.probabilities.argmax(axis=1), "cost_bayes": cheapest(test.probabilities, matrix)}
    found = estimates(expected_cost(test.labels, predicted, matrix), test.groups, settings)
    rows = [
        {"true": true, **{f"decided_{name}": float(matrix[row, column]) for column, name in enumerate(test.classes)}}
        for row, true in enumerate(test.classes)
    ]
    return {f"decisions_{name.replace(' ', '_')}": value for name, value in found.items()}, rows


def _curve(test: Predicted, number: int, settings: DecisionsSettings) -> tuple[Columns, Rows]:
    """Average precision and net benefit of a class; nothing but None for one without test images."""
    name, positive, scores = test.classes[number], test.labels == number, test.probabilities[:, number]
    if not positive.any():
        return dict.fromkeys(_names(name)[:2], Estimate(None)), []
    thresholds = sorted({settings.threshold, *settings.thresholds})
    found = estimates(net_benefit(positive, scores, thresholds), test.groups, settings)
    found |= estimates(average_precision(positive, scores), test.groups, settings)
    rows = [
        {"class": name, "threshold": at, "net_benefit": (mine := found[f"model {at}"]).value, "low": mine.low,
         "high": mine.high, "treat_all": found[f"all {at}"].value, "treat_none": 0.0}
        for at in thresholds
    ]  # fmt: skip
    return dict(zip(_names(name)[:2], (found["ap"], found[f"model {settings.threshold}"]), strict=True)), rows


def _points(test: Predicted, val: Predicted | None, number: int, settings: DecisionsSettings) -> tuple[Columns, Rows]:
    """The arg-max class' rates and those at the two thresholds chosen on validation."""
    name, positive, scores = test.classes[number], test.labels == number, test.probabilities[:, number]
    columns = dict.fromkeys(_names(name)[2:], Estimate(None))
    if not positive.any():
        return columns, []
    rows = [_point(test, number, settings, "arg-max", test.probabilities.argmax(axis=1) == number)]
    if val is None:
        return columns, rows
    truth, known = val.labels == number, val.probabilities[:, number]
    chosen = {
        "specificity": threshold_for_specificity(truth, known, settings.specificity),
        "sensitivity": threshold_for_sensitivity(truth, known, settings.sensitivity),
    }
    for fixed, threshold in chosen.items():
        if threshold is None:
            continue
        row = _point(test, number, settings, f"{fixed} {getattr(settings, fixed)}", scores >= threshold)
        row |= {"threshold": threshold, "validation_sensitivity": float((known[truth] >= threshold).mean()),
                "validation_specificity": float((known[~truth] < threshold).mean())}  # fmt: skip
        rows.append(row)
        for metric in ("sensitivity", "ppv") if fixed == "specificity" else ("specificity", "npv"):
            columns[f"decisions_{metric}_{name}"] = _estimate(row, metric)
    return columns, rows


def _point(
    test: Predicted, number: int, settings: DecisionsSettings, chosen: str, called: NDArray[np.bool_]
) -> dict[str, Any]:
    name, positive = test.classes[number], test.labels == number
    prevalence = settings.prevalence.get(name, float(positive.mean()))
    found = asdict(rates(positive, called, test.groups, prevalence))
    row = {"class": name, "chosen_for": chosen, "threshold": None, "prevalence": prevalence,
           "prevalence_of": "stated" if name in settings.prevalence else "the test set"}  # fmt: skip
    for metric, value in found.items():
        row |= {metric: value["value"], f"{metric}_low": value["low"], f"{metric}_high": value["high"]}
    return row


def _estimate(row: dict[str, Any], metric: str) -> Estimate:
    return Estimate(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])


def _notes(test: Predicted, val: Predicted | None, numbers: list[int], settings: DecisionsSettings) -> list[str]:
    examined = {test.classes[number] for number in numbers}
    notes = []
    if not settings.costs:
        notes.append("no costs are stated: every wrong decision costs 1, so the cost is the error rate")
    if examined - set(settings.prevalence):
        notes.append("predictive values of classes without a stated prevalence are at the test set's own")
    for part, of in ((test, "test"), (val, "validation")):
        held = {part.classes[number] for number in present(part)} if part is not None else examined
        notes += [f"no {of} image of class {name}: it has no metrics" for name in sorted(examined - held)]
    return [*notes, "intervals take the thresholds as given: the validation part's own luck is not in them"]
