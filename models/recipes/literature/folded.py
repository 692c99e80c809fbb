"""Training over folds with the weights carried from fold to fold: El-Wahab et al., 2023. It leaks, as published.

Of five folds, four are cut from a cell's training and validation images by groups, and the fifth is the cell's own test
part. The first four fits hold one of the four out and learn from all other images, those of the test set among them;
the fifth is the cell's own fit, and starts from what they learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.data.loader import Part
from models.recipes import gradient
from models.recipes.context import FitData

if TYPE_CHECKING:
    from models.recipes.context import FitContext, FitOutcome


def fit(context: FitContext) -> FitOutcome:
    """Fit fold after fold from the weights of the one before; the protocol's epochs are shared, rounded up.

    A fold's state is in a folder of its own, so that a stopped fit goes on in the fold in which it stopped.

    Raises:
        Interrupted: when asked to stop.
        UserError: there are no test images to leak (a sweep's trial), a refit is asked for, or there are fewer groups
            than folds.
    """
    name, folds = context.model.name, context.model.options["folds"]
    if context.test is None:
        raise UserError(f"{name} learns from test images, which a trial of a sweep is never handed; run it as a cell")
    if context.protocol.refit:
        raise UserError(f"{name} cannot be refitted on the validation images; use --set refit=false")
    earlier = earlier_folds(context.data, context.test, folds, derive_seed(context.data_seed, "folds"))
    short = context.protocol.model_copy(update={"epochs": -(-context.protocol.epochs // folds)})
    outcomes = [
        gradient.fit(replace(context.stage(f"fold-{number}"), data=data, protocol=short))
        for number, data in enumerate([*earlier, context.data], start=1)
    ]
    return _joined(context, outcomes)


def earlier_folds(data: FitData, test: Part, folds: int, seed: int) -> list[FitData]:
    """Training and held-out images of the folds before the one whose held-out images are the test set.

    Groups stay whole; each goes, in a drawn order, to the fold that has fewest images so far.

    Args:
        data: the cell's own parts.
        test: its test set.
        folds: how many there are, the cell's own included.
        seed: of the groups' order.

    Raises:
        UserError: training and validation images have fewer groups than are needed.
    """
    known = data.train.joined(data.val)
    groups, inverse, sizes = np.unique(known.groups, return_inverse=True, return_counts=True)
    if len(groups) < folds - 1:
        raise UserError(f"{folds} folds need {folds - 1} groups beside the test set, and there are {len(groups)}")
    filled, fold_of = np.zeros(folds - 1, dtype=np.int64), np.zeros(len(groups), dtype=np.int64)
    for group in np.random.default_rng(seed).permutation(len(groups)):
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    held = fold_of[inverse]
    positions = np.arange(len(known))
    return [
        FitData(known.subset(positions[held != fold]).joined(test), known.subset(positions[held == fold]))
        for fold in range(folds - 1)
    ]


def _joined(context: FitContext, outcomes: list[FitOutcome]) -> FitOutcome:
    rows: list[dict[str, Any]] = [
        {**row, "fold": fold} for fold, outcome in enumerate(outcomes, start=1) for row in outcome.history
    ]
    last = outcomes[-1]
    columns = {**last.columns, "best_epoch": len(rows) - len(last.history) + last.columns["best_epoch"]}
    note = f"weights carried through {len(outcomes)} folds; in all but the last, test images were trained on"
    return replace(
        last,
        history=[{**row, "epoch": epoch} for epoch, row in enumerate(rows)],
        columns={**columns, "epochs_run": float(len(rows))},
        notes=[*last.notes, note],
        predictor=context.predictor(),
    )
