"""Studies: where they are stored, how they sample and how they prune."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import Trial

from bench.core.errors import UserError
from bench.core.identity import derive_seed
from sweeps.objectives import Objective
from sweeps.space import Choice, Dimension, Space

PRUNERS = ("hyperband", "halving", "none")
_JOURNALS = (".log", ".journal")
_TRIES = 5


@dataclass(frozen=True)
class Settings:
    """What makes a study: everyone who gives the same ones works on the same study.

    Attributes:
        name: a digest of whatever the trials' values depend on.
        wanted: how many trials; it may grow later.
        longest: epochs or rounds of the longest trial.
    """

    name: str
    objectives: tuple[Objective, ...]
    wanted: int
    pruner: str
    longest: int


def open_study(settings: Settings, storage: str) -> Study:
    """Open the study, or make it when nobody has.

    Raises:
        UserError: a storage that cannot be reached, or a pruner that does not go with the objectives.
    """
    check_pruner(settings)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = ["maximize" if one.direction == "max" else "minimize" for one in settings.objectives]
    return optuna.create_study(
        storage=open_storage(storage),
        study_name=settings.name,
        directions=directions,  # type: ignore[arg-type]
        load_if_exists=True,
        pruner=make_pruner(settings),
    )


def check_pruner(settings: Settings) -> None:
    """Refuse pruning where no single metric tells early how a trial goes."""
    if settings.pruner not in PRUNERS:
        raise UserError(f"--pruner takes {', '.join(PRUNERS)}, not {settings.pruner!r}")
    if settings.pruner != "none" and len(settings.objectives) > 1:
        raise UserError("--pruner works with one --objective; with several, no trial is worse before it has ended")


def make_pruner(settings: Settings) -> BasePruner:
    """Hyperband, successive halving (a third goes on at each rung), or none."""
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=settings.longest, reduction_factor=3)
    if settings.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return NopPruner()


def make_sampler(settings: Settings, number: int) -> BaseSampler:
    """TPE for one objective (it counts running trials as bad ones: constant liar), NSGA-II for several.

    Seeded by the trial's number, so that processes that share a study never draw the same numbers.
    """
    seed = derive_seed("sweep", settings.name, number)
    if len(settings.objectives) > 1:
        return NSGAIISampler(seed=seed, population_size=max(4, min(50, settings.wanted // 4)))
    return TPESampler(seed=seed, n_startup_trials=max(2, min(10, settings.wanted // 3)))


def suggest(trial: Trial, space: Space) -> dict[str, object]:
    """Every searched field's value for a trial; a resumed trial keeps those that it had."""
    return {one.name: _suggest_one(trial, one) for one in space.dimensions}


def _suggest_one(trial: Trial, one: Dimension) -> object:
    domain = one.domain
    if isinstance(domain, Choice):
        return trial.suggest_categorical(one.name, domain.values)
    if domain.whole:
        step = int(domain.step or 1)
        return trial.suggest_int(one.name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(one.name, domain.low, domain.high, step=domain.step, log=domain.log)


def open_storage(storage: str) -> BaseStorage:
    """A database by URL, or a journal file by its ending (.log, .journal).

    Raises:
        UserError: the driver is not installed, or the database does not answer.
    """
    if "://" not in storage:
        return _journal(Path(storage))
    if storage.startswith("sqlite:///"):
        path = Path(storage.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that both find the file new would both make its tables.
        with FileLock(path.with_name(f"{path.name}.lock")):
            return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 120}})
    return _database(storage)


def _journal(path: Path) -> JournalStorage:
    if path.suffix not in _JOURNALS:
        raise UserError(
            f"--storage takes a URL (sqlite:///FILE, postgresql://..., mysql://...) or a journal file that ends in "
            f"{' or '.join(_JOURNALS)}, not {str(path)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _database(url: str) -> RDBStorage:
    """A server's storage; whoever loses the race for making the tables finds them made at the next try."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    for attempt in range(_TRIES):
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except ImportError as error:
            raise UserError(
                f"--storage {_without_password(url)}: the database's driver is missing; pip install 'psycopg[binary]' "
                "for postgresql+psycopg://, or pymysql for mysql+pymysql://"
            ) from error
        except SQLAlchemyError as error:
            if attempt == _TRIES - 1 or not isinstance(error, DBAPIError):
                reason = str(error).splitlines()[0]
                raise UserError(f"--storage {_without_password(url)} cannot be used: {reason}") from error
            time.sleep(0.5 * (attempt + 1))
    raise AssertionError("unreachable")


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


def front(study: Study, objectives: Sequence[Objective]) -> list[int]:
    """The numbers of the trials that none beats: the best one alone for a single objective, best first."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        return []
    sign = -1 if objectives[0].direction == "max" else 1
    best = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    return [trial.number for trial in (best if len(objectives) > 1 else best[:1])]
