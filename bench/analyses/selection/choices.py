"""What was chosen in a run, and what else could have been: epochs, protocols, models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.analyses.registry import Answer, Estimate, Settings
from bench.analyses.run import WholeRun
from bench.analyses.selection.discrimination import Measured, discrimination
from bench.analyses.selection.optimism import Candidate, Choice, mean_optimism
from bench.core.errors import UserError
from bench.harness.finished import FinishedCell
from bench.store.cells import StoredCell
from bench.store.layout import EPOCHS, epoch_paths
from bench.store.predictions import read_history
from models.predictor import NetworkPredictor
from models.recipes.state import load_weights

_SPEC = ("model", "dataset", "split", "regime", "seed", "protocol")
Kept = Callable[[StoredCell], Sequence[Candidate]]


def optimism_of_run(run: WholeRun, settings: Settings, folder: Path) -> Answer:  # noqa: ARG001
    """What choosing by the test set would have seemed to gain in a run, by what is chosen.

    Args:
        run: its finished cells. Epochs are known of cells that were run with --keep-epochs.
        settings: none.
        folder: nothing is written.

    Returns:
        Columns `optimism_of_epoch`, `optimism_of_protocol` (the trials of a search, run as cells) and
        `optimism_of_model`, where there was such a choice; table `choices`.
    """
    kinds = {
        "epoch": _epoch_choices(run.cells),
        "protocol": _choices_among(run.cells, "protocol"),
        "model": _choices_among(run.cells, "model"),
    }
    answers = {kind: mean_optimism(choices, kind) for kind, choices in kinds.items() if choices}
    columns = {f"optimism_of_{kind}": Estimate(None) for kind in kinds}
    columns |= {name: found for answer in answers.values() for name, found in answer.columns.items()}
    rows = [{"chosen": kind, **row} for kind, answer in answers.items() for row in answer.tables["choices"]]
    notes = [note for answer in answers.values() for note in answer.notes]
    if "epoch" not in answers:
        notes.append("no cell kept its epochs (--keep-epochs): what the choice of the epoch gained is not known")
    return Answer(columns, {"choices": rows}, notes=notes)


def _choices_among(cells: Sequence[StoredCell], among: str) -> list[Choice]:
    """A choice for each group of cells that differ in one field alone."""
    groups: dict[str, list[StoredCell]] = {}
    for cell in cells:
        rest = {name: cell.spec[name] for name in _SPEC if name != among}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(cell)
    several = [group for group in groups.values() if len(group) > 1]
    return [Choice(_place(group[0], among), tuple(_candidates(group, among))) for group in several]


def _place(cell: StoredCell, without: str) -> str:
    words = [f"seed {cell.spec[name]}" if name == "seed" else str(cell.spec[name]) for name in _SPEC[:-1]]
    shown = [word for name, word in zip(_SPEC, words, strict=False) if name != without]
    tuned = cell.spec["protocol"].get("tuning")
    return " · ".join([*shown, f"tuning {tuned}"] if without != "protocol" and tuned else shown)


def _candidates(group: Sequence[StoredCell], among: str) -> Iterator[Candidate]:
    for cell in group:
        name = cell.spec["model"] if among == "model" else cell.key
        yield Candidate(str(name), _best_validation(cell), _accuracy(cell))


def _accuracy(cell: StoredCell) -> float:
    found = (cell.result or {})["metrics"].get("accuracy")
    return math.nan if found is None else float(found)


def _best_validation(cell: StoredCell) -> float:
    """The highest validation accuracy of a fit, which is that of the epoch that was taken; NaN where none is known."""
    known = [row["val_accuracy"] for row in read_history(cell) if row.get("val_accuracy") is not None]
    return max(known, default=math.nan)


def _epoch_choices(cells: Sequence[StoredCell]) -> list[Choice]:
    return [Choice(_place(cell, ""), _epochs(cell)) for cell in cells if (cell.folder / EPOCHS).is_dir()]


def _epochs(stored: StoredCell) -> tuple[Candidate, ...]:
    """Every kept epoch: its validation accuracy as the history has it, its test accuracy by its weights."""
    validation = {int(row["epoch"]): float(row["val_accuracy"]) for row in read_history(stored)}
    labels = FinishedCell.of(stored).predictions("test").labels
    found = []
    for number, path in epoch_paths(stored.folder).items():
        right = _answers_of_epoch(stored, path).argmax(axis=1) == labels
        found.append(Candidate(f"epoch {number + 1}", validation.get(number, math.nan), float(right.mean())))
    return tuple(found)


def _answers_of_epoch(stored: StoredCell, path: Path) -> Any:
    # A predictor folds its BatchNorms once: other weights need one of their own.
    cell = FinishedCell.of(stored)
    predictor = cell.predictor
    if not isinstance(predictor, NetworkPredictor):
        raise UserError(f"{stored.folder}: its predictor is no network, whose epochs could be taken")
    module = predictor.network if cell.spec.protocol.tuning == "full" else predictor.network.head
    load_weights(module, path)
    return predictor.of_images(cell.images("test"))


def discrimination_of_run(run: WholeRun, settings: Settings, folder: Path) -> Answer:  # noqa: ARG001
    """Whether each dataset of a run tells its models apart.

    Args:
        run: finished cells of two models or more, with two seeds or more.
        settings: none.
        folder: nothing is written.

    Returns:
        Columns `discrimination_power_DATASET` and `discrimination_power_paired_DATASET`, numbered where a dataset
        stands under several conditions; table `models`; a sentence a condition.
    """
    conditions: dict[str, list[StoredCell]] = {}
    for cell in run.cells:
        rest = [cell.spec["dataset"], _kind(cell), cell.spec["regime"], cell.spec["protocol"]]
        conditions.setdefault(json.dumps(rest, sort_keys=True), []).append(cell)
    columns: dict[str, Any] = {}
    rows, notes = [], []
    for cells in conditions.values():
        name = _condition(cells[0])
        answer = discrimination(name, [_measured(cell, cells) for cell in cells])
        dataset, number = str(cells[0].spec["dataset"]), 1
        while f"discrimination_power_{_numbered(dataset, number)}" in columns:
            number += 1
        columns |= {f"{column}_{_numbered(dataset, number)}": found for column, found in answer.columns.items()}
        rows += [{"condition": name, **row} for row in answer.tables["models"]]
        notes += answer.notes
    return Answer(columns, {"models": rows}, notes=notes)


def _numbered(dataset: str, number: int) -> str:
    return dataset if number == 1 else f"{dataset}_{number}"


def _kind(cell: StoredCell) -> str:
    """The split's kind: the folds of one stand for seeds."""
    return str(cell.spec["split"]).partition(":")[0]


def _condition(cell: StoredCell) -> str:
    tuning = cell.spec["protocol"].get("tuning", "full")
    return " · ".join([str(cell.spec["dataset"]), _kind(cell), str(cell.spec["regime"]), f"tuning {tuning}"])


def _measured(cell: StoredCell, beside: Sequence[StoredCell]) -> Measured:
    draws = sorted({(str(each.spec["split"]), int(each.spec["seed"])) for each in beside})
    place = draws.index((str(cell.spec["split"]), int(cell.spec["seed"])))
    return Measured(str(cell.spec["model"]), place, _accuracy(cell))
