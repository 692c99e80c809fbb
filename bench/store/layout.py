"""Where everything in a run's folder lies: the one place that names its files.

runs/NAME/plan.json, environment.json, repeat.toml (what repeats the latest command)
          cells/KEY/cell.json, history.parquet, predictions.parquet, predictions-PART.parquet, predictions-own.parquet
                    (of the test set, by each image's own client), predictor/,
                    partition.json,
                    result.json (written last: a cell is done when it is there), failure.json, wandb.json,
                    last.ckpt, best.safetensors, alone.json, alone-CLIENT.safetensors, clients/ (the fit's own state,
                    while it runs), trial.json (a sweep's trial),
                    training-features.safetensors (once `bench predict` has asked how alike an image is to them),
                    epochs/NUMBER.safetensors (where they were kept: what each epoch made of what is trained),
                    analyses/NAME.json, analyses/NAME.failure.json, analyses/NAME/
          analyses/ (as a cell's: what was asked about the whole run)
          sweeps/STUDY.json, STUDY.toml, study.db, locks/
          report/
"""

from __future__ import annotations

from pathlib import Path

SCHEMA = 1
PLAN, ENVIRONMENT, PLAN_LOCK, RUN_FILE = "plan.json", "environment.json", ".plan.lock", "repeat.toml"
CELL, RESULT, FAILURE, TRIAL = "cell.json", "result.json", "failure.json", "trial.json"
HISTORY, PREDICTIONS = "history.parquet", "predictions.parquet"
PREDICTOR, PREDICTOR_ABOUT, PREDICTOR_WEIGHTS = "predictor", "predictor.json", "weights.safetensors"
BEST, LAST = "best.safetensors", "last.ckpt"
EPOCHS = "epochs"
TRAINING_FEATURES = "training-features.safetensors"
# What W&B itself keeps in a run's folder, with links into the user's own cache; nothing else looks into it.
WANDB_FOLDER = "wandb"
PARTITION, ALONE, CLIENTS, TRACKING = "partition.json", "alone.json", "clients", "wandb.json"
CELL_LOCK, WORKER_LOCK = ".lock", ".worker.lock"
ANSWERS, ANSWER_FAILURE = "analyses", ".failure.json"


def cells_folder(run: Path) -> Path:
    """Where a run's cells lie."""
    return run / "cells"


def predictions_file(part: str) -> str:
    """The name of the file of a part's predictions: "train", "val", "test", or "own": the test set's by own models."""
    return PREDICTIONS if part == "test" else f"predictions-{part}.parquet"


def epoch_path(cell: Path, number: int) -> Path:
    """What an epoch, counted from 0, made of what is trained, where it was kept."""
    return cell / EPOCHS / f"{number:06}.safetensors"


def epoch_paths(cell: Path) -> dict[int, Path]:
    """The epochs that were kept, by number."""
    return {int(path.stem): path for path in sorted((cell / EPOCHS).glob("[0-9]*.safetensors"))}


def alone_file(client: object) -> str:
    """The name of the file of the model that a client trained alone."""
    return f"alone-{client}.safetensors"


def answer_path(cell: Path, analysis: str) -> Path:
    """What an analysis answered about a cell; the files that it names lie beside it, in a folder of its name."""
    return cell / ANSWERS / f"{analysis}.json"


def failure_path(cell: Path, analysis: str) -> Path:
    """That an analysis of a cell failed, and why."""
    return cell / ANSWERS / f"{analysis}{ANSWER_FAILURE}"


def sweeps_folder(run: Path) -> Path:
    """Where a run's sweeps lie."""
    return run / "sweeps"


def study_record(run: Path, study: str) -> Path:
    """What a sweep found, for the report."""
    return sweeps_folder(run) / f"{study}.json"


def study_records(run: Path) -> list[Path]:
    """The records of a run's sweeps, by name."""
    return sorted(sweeps_folder(run).glob("*.json"))


def study_protocol(run: Path, study: str) -> Path:
    """The protocol that a sweep chose."""
    return sweeps_folder(run) / f"{study}.toml"


def study_storage(run: Path) -> Path:
    """Optuna's own storage unless told otherwise."""
    return sweeps_folder(run) / "study.db"


def study_locks(run: Path) -> Path:
    """The locks of trials that processes hold."""
    return sweeps_folder(run) / "locks"
