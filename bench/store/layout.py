"""Where everything in a run's folder lies: the one place that names its files.

runs/NAME/plan.json, environment.json
          cells/KEY/cell.json, history.parquet, predictions.parquet, best.safetensors, partition.json,
                    result.json (written last: a cell is done when it is there), failure.json, wandb.json,
                    last.ckpt, alone.json, alone-CLIENT.safetensors (while it runs), trial.json (a sweep's trial),
                    analyses/NAME.json, analyses/NAME.failure.json, analyses/NAME/
          sweeps/STUDY.json, STUDY.toml, study.db, locks/
          report/
"""

from __future__ import annotations

from pathlib import Path

SCHEMA = 1
PLAN, ENVIRONMENT, PLAN_LOCK = "plan.json", "environment.json", ".plan.lock"
CELL, RESULT, FAILURE, TRIAL = "cell.json", "result.json", "failure.json", "trial.json"
HISTORY, PREDICTIONS = "history.parquet", "predictions.parquet"
BEST, LAST = "best.safetensors", "last.ckpt"
PARTITION, ALONE, TRACKING, CELL_LOCK = "partition.json", "alone.json", "wandb.json", ".lock"
ANSWERS = "analyses"


def cells_folder(run: Path) -> Path:
    """Where a run's cells lie."""
    return run / "cells"


def alone_file(cell: Path, client: int) -> Path:
    """What one client trained alone, until the cell is done."""
    return cell / f"alone-{client}.safetensors"


def report_folder(run: Path) -> Path:
    """Where a run's report is written unless told otherwise."""
    return run / "report"


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
