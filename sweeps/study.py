"""Studies: where they are stored, how they sample and how they prune."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.core.errors import UserError
from bench.core.identity import derive_seed
from sweeps.ledger import BEAT, KEY, LOST, OWNER, PROBLEM, SECONDS, TOKEN
from sweeps.objectives import Objective
from sweeps.space import Choice, Dimension, Space
from sweeps.storage import PATIENCE, open_storage, readable

PRUNERS = ("hyperband", "halving", "none")


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


def open_study(settings: Settings, storage: str, patience: float = PATIENCE) -> Study:
    """Open the study, or make it when nobody has.

    Args:
        patience: seconds for which a database server that is gone is asked again.

    Raises:
        UserError: a storage that cannot be reached or is damaged, or a pruner that does not go with the objectives.
    """
    check_pruner(settings)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = ["maximize" if one.direction == "max" else "minimize" for one in settings.objectives]
    with readable(storage):
        study = optuna.create_study(
            storage=open_storage(storage, patience),
            study_name=settings.name,
            directions=directions,  # type: ignore[arg-type]
            load_if_exists=True,
            pruner=make_pruner(settings),
        )
        _look_through(study, directions)
    return study


def _look_through(study: Study, directions: Sequence[str]) -> None:
    """Read what a sweep goes by once, so that whatever is damaged shows now. Raises ValueError and what Optuna does."""
    if [each.name.lower() for each in study.directions] != list(directions):
        raise ValueError("its directions are not those that were asked for")
    trials = study.get_trials(deepcopy=False)
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        study.best_trials  # noqa: B018 - it reads what the trials alone do not tell
    for place, trial in enumerate(trials):
        _held_to_types(place, trial)
        if trial.state == TrialState.COMPLETE and len(trial.values or ()) != len(directions):
            raise ValueError(f"trial {trial.number} is complete and has not {len(directions)} values")
        if not all(isinstance(trial.user_attrs.get(name, ""), str) for name in (OWNER, TOKEN, LOST, PROBLEM)):
            raise ValueError(f"trial {trial.number} names no owner")
        if not isinstance(trial.user_attrs.get(BEAT, 0), int):
            raise ValueError(f"trial {trial.number} gives no sign of life that is a number")


def _held_to_types(place: int, trial: FrozenTrial) -> None:
    """Raise ValueError for a trial that holds what no sweep writes: a database gives bytes where it was given some."""
    numbers = [*(trial.values or ()), *trial.intermediate_values.values()]
    if not isinstance(trial.number, int) or trial.number != place:
        raise ValueError(f"its trial {place} has the number {trial.number!r}")
    if not all(isinstance(name, str) for name in trial.params):
        raise ValueError(f"trial {place} names a parameter with what is no text")
    if not all(isinstance(value, (bool, int, float, str)) or value is None for value in trial.params.values()):
        raise ValueError(f"trial {place} has a parameter that is no plain value")
    if not all(isinstance(value, (int, float)) for value in [*trial.intermediate_values, *numbers]):
        raise ValueError(f"trial {place} has a value that is no number")
    if not isinstance(trial.user_attrs.get(SECONDS, 0.0), (int, float, type(None))):
        raise ValueError(f"trial {place} took a time that is no number")
    if not isinstance(trial.user_attrs.get(KEY, ""), (str, type(None))):
        raise ValueError(f"trial {place} names no cell")


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


def front(study: Study, objectives: Sequence[Objective]) -> list[int]:
    """The numbers of the trials that none beats: the best one alone for a single objective, best first."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        return []
    sign = -1 if objectives[0].direction == "max" else 1
    best = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    return [trial.number for trial in (best if len(objectives) > 1 else best[:1])]
