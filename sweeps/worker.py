"""One process of a sweep: claim a trial, fit it on training and validation data, tell its values, and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.core.atomic import out_of_space
from bench.core.cellspec import CellSpec
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.data.table import Table
from bench.harness.inputs import CellJob
from bench.harness.networks import check_runtime
from bench.harness.plan import plan_cell
from bench.harness.trial import run_trial
from models.recipes.callbacks import Interrupted
from models.registry import MODELS
from models.weights.initial import resolve
from sweeps.ledger import KEY, PROBLEM, SECONDS, Claim, Ledger, alive, finish
from sweeps.objectives import TIMES, values_of
from sweeps.space import Space
from sweeps.storage import UNUSABLE, StorageGone
from sweeps.study import Settings, make_sampler, suggest
from sweeps.target import Target, settle

_POLL_SECONDS = 1.0


class Listener(Protocol):
    """Who wants to hear of a sweep."""

    def started(self, number: int, params: dict[str, Any], resumed: bool) -> None:
        """A trial begins or goes on.

        Args:
            number: of the trial.
            params: its values by field.
            resumed: whether another process had begun it.
        """

    def ended(self, trial: FrozenTrial) -> None:
        """A trial of this process ended."""

    def waiting(self, count: int) -> None:
        """The `count` trials that are left are with other processes; told once while they are."""


@dataclass(frozen=True)
class Sweep:
    """A sweep as every process of it sees it.

    Attributes:
        base: what the values are put into.
        seed: of every trial's cell.
        folder: the run's folder.
    """

    base: Target
    table: Table
    split: str
    seed: int
    space: Space
    settings: Settings
    folder: Path
    runtime: Runtime

    def job(self, target: Target, on_event: Callable[[dict[str, Any]], None], stop: Callable[[], bool]) -> CellJob:
        """The cell that a trial fits, in the run's folder of trials; its protocol never refits.

        Args:
            target: the base with the trial's values.
            on_event: hears of every event of the fit.
            stop: asked after every batch.
        """
        # A refit learns from the validation images, which are what a trial is judged by.
        protocol = target.protocol.model_copy(update={"refit": False})
        spec = CellSpec(target.model, self.table.name, self.split, target.regime, protocol, self.seed)
        check_runtime(protocol, self.runtime)
        planned = plan_cell(spec, self.table, resolve(protocol.weights, MODELS.get(target.model)))
        return CellJob(planned, self.table, self.folder / "trials" / planned.key, self.runtime, on_event, stop)


class Judge:
    """Hears a fit's epochs and rounds, reports them to the study, and ends the fit when the pruner says so.

    An epoch counts from 1, so that it is the resource that the pruner spends.
    """

    def __init__(self, trial: Trial, settings: Settings) -> None:
        self._trial = trial
        self._watched = settings.objectives[0].watched
        self._prunes = settings.pruner != "none"
        self._reports = len(settings.objectives) == 1

    def __call__(self, event: dict[str, Any]) -> None:
        """Hear of something. Raises optuna.TrialPruned."""
        if event["event"] != "epoch" or not self._reports or event.get(self._watched) is None:
            return
        self._trial.report(float(event[self._watched]), int(event["epoch"]) + 1)
        if self._prunes and self._trial.should_prune():
            raise optuna.TrialPruned


def work(sweep: Sweep, study: Study, ledger: Ledger, listener: Listener, stop: Callable[[], bool]) -> None:
    """Run trials until the study has them all, or until asked to stop.

    Raises:
        UserError: when every trial failed.
    """
    told = False
    while not stop():
        claim = ledger.claim()
        if claim is not None:
            run_claim(sweep, study, ledger, claim, listener, stop)
            told = False
            continue
        left = sweep.settings.wanted - ledger.finished()
        if left <= 0:
            break
        if not told:
            listener.waiting(left)
        told = True
        time.sleep(_POLL_SECONDS)
    _refuse_if_all_failed(ledger)


def run_claim(
    sweep: Sweep, study: Study, ledger: Ledger, claim: Claim, listener: Listener, stop: Callable[[], bool]
) -> None:
    """Run a claimed trial; a request to stop leaves it to the next process that comes.

    Args:
        sweep: the search.
        study: its trials.
        ledger: their ends.
        claim: the trial that this process holds.
        listener: hears how it goes.
        stop: asked after every batch.
    """
    trial = claim.trial
    study.sampler = make_sampler(sweep.settings, trial.number)
    try:
        with alive(trial):
            _fit(sweep, study, claim, listener, stop)
    except Interrupted:
        claim.lock.release()
        return
    except UpdateFinishedTrialError:
        pass  # others took this process for dead: the trial is lost and asked for again elsewhere
    ledger.release(claim.lock)
    listener.ended(study.get_trials(deepcopy=False)[trial.number])


def _fit(sweep: Sweep, study: Study, claim: Claim, listener: Listener, stop: Callable[[], bool]) -> None:
    trial, clock = claim.trial, time.perf_counter()
    params = suggest(trial, sweep.space)
    listener.started(trial.number, params, claim.resumed)
    timed = any(one.column in TIMES for one in sweep.settings.objectives)
    try:
        job = sweep.job(settle(sweep.base, params), Judge(trial, sweep.settings), stop)
        trial.set_user_attr(KEY, job.planned.key)
        values = values_of(sweep.settings.objectives, run_trial(job, timed))
    except optuna.TrialPruned:
        trial.set_user_attr(SECONDS, time.perf_counter() - clock)
        finish(study, trial, state=TrialState.PRUNED)
    except (Interrupted, UpdateFinishedTrialError, StorageGone):
        raise
    except Exception as error:
        if out_of_space(error) or isinstance(error, UNUSABLE):  # no fault of the trial's, which is taken up again
            raise
        trial.set_user_attr(PROBLEM, f"{type(error).__name__}: {error}"[:500])
        finish(study, trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr(SECONDS, time.perf_counter() - clock)
        finish(study, trial, values)


def _refuse_if_all_failed(ledger: Ledger) -> None:
    trials = ledger.counted()
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    if failed and len(failed) == len(trials):
        raise UserError(f"every trial failed, the first by {failed[0].user_attrs.get(PROBLEM, 'an unknown reason')}")
