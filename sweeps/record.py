"""A study written into the run's folder as one JSON document, for the report and for scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bench.core.atomic import write_json
from bench.store.files import now
from bench.store.layout import study_record
from sweeps.ledger import KEY, PROBLEM, SECONDS, Ledger
from sweeps.study import front
from sweeps.target import Target
from sweeps.worker import Sweep

SCHEMA = 1
FEWEST_FOR_IMPORTANCE = 5


def record(sweep: Sweep, study: Study, ledger: Ledger, tuned: Target | None, cells: dict[str, list[str]]) -> Path:
    """Write what the study knows by now.

    Args:
        tuned: the chosen protocol; None while nothing is complete.
        cells: "default" and "tuned": the keys of the cells on the test set.
    """
    settings = sweep.settings
    objectives = [{"column": one.column, "direction": one.direction} for one in settings.objectives]
    best = front(study, settings.objectives)
    document = {
        "schema": SCHEMA,
        "study": settings.name,
        "written": now(),
        "model": sweep.base.model,
        "dataset": sweep.table.name,
        "split": sweep.split,
        "regime": sweep.base.regime,
        "seed": sweep.seed,
        "wanted": settings.wanted,
        "pruner": settings.pruner,
        "objectives": objectives,
        "space": sweep.space.as_dict(),
        "trials": [_row(trial) for trial in ledger.counted()],
        "importances": importances(study, len(objectives)),
        "front": best,
        "best": best[0] if best else None,
        "tuned": None if tuned is None else {"model": tuned.model, "regime": tuned.regime},
        "cells": cells,
    }
    path = study_record(sweep.folder, settings.name)
    write_json(path, document)
    return path


def _row(trial: FrozenTrial) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "params": trial.params,
        "values": trial.values if trial.state == TrialState.COMPLETE else None,
        "steps": [[step, value] for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)],
        "seconds": attributes.get(SECONDS),
        "cell": attributes.get(KEY),
        "problem": attributes.get(PROBLEM, ""),
    }


def importances(study: Study, objectives: int) -> list[dict[str, float]]:
    """How much of the spread of each objective each field explains (fANOVA); empty for too few or equal values."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCE:
        return []
    return [_importance(study, complete, place) for place in range(objectives)]


def _importance(study: Study, complete: Sequence[FrozenTrial], place: int) -> dict[str, float]:
    values = {trial.values[place] for trial in complete}
    varied = [name for name in complete[0].params if len({str(trial.params.get(name)) for trial in complete}) > 1]
    if len(values) < 2 or not varied:
        return {}
    found = get_param_importances(
        study,
        params=varied,
        target=lambda trial: float(trial.values[place]),
        evaluator=FanovaImportanceEvaluator(seed=0),
    )
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}
