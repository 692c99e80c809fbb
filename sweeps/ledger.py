"""Who runs which trial of a study that several processes and machines share.

A study is to hold `wanted` trials: complete, pruned or failed on their own account. A trial is entered together with
its owner, so that none is ever without one; a process of the same run folder that finds the owner dead (its lock is
free) goes on with the trial, and one elsewhere that sees no sign of life marks it lost and asks for its point again.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bench.core.errors import UserError

BEAT_SECONDS, SILENT_SECONDS = 15.0, 300.0
OWNER, TOKEN, BEAT, LOST, PROBLEM = "owner", "token", "beat", "lost", "problem"
KEY, SECONDS = "cell", "seconds"


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs, under its lock.

    Attributes:
        resumed: whether a process that died had begun it.
    """

    trial: Trial
    lock: FileLock
    resumed: bool


@dataclass
class Ledger:
    """Claims trials.

    Args:
        locks: the folder of the trials' locks, in the run's folder.
        silent: seconds without a sign of life after which another machine's trial is lost.
    """

    study: Study
    wanted: int
    locks: Path
    silent: float = SILENT_SECONDS
    _seen: dict[int, tuple[Any, float]] = field(default_factory=dict)
    _again: list[dict[str, Any]] = field(default_factory=list)

    @property
    def owner(self) -> str:
        """This machine and run folder."""
        return f"{socket.gethostname()}:{self.locks.resolve()}"

    def finished(self) -> int:
        """How many of the wanted trials have ended."""
        return sum(trial.state.is_finished() for trial in self.counted())

    def counted(self) -> list[FrozenTrial]:
        """The trials that count, by number: all but lost and withdrawn ones."""
        trials = sorted(self.study.get_trials(deepcopy=False), key=lambda trial: trial.number)
        return [trial for trial in trials if not is_lost(trial)]

    def claim(self) -> Claim | None:
        """A trial to run: an orphan of this folder first, else a new one; None when the others have the rest."""
        self.locks.mkdir(parents=True, exist_ok=True)
        running = [trial for trial in self.counted() if trial.state == TrialState.RUNNING]
        for trial in running:
            if trial.user_attrs.get(OWNER) != self.owner:
                self._watch(trial)
            elif claim := self._adopt(trial):
                return claim
        return self._enter() if len(self.counted()) < self.wanted else None

    def _adopt(self, trial: FrozenTrial) -> Claim | None:
        lock = self._lock(trial.user_attrs[TOKEN])
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        state = self.study.get_trials(deepcopy=False)[trial.number].state
        if state == TrialState.RUNNING:
            return Claim(Trial(self.study, trial._trial_id), lock, resumed=True)
        lock.release()
        return None

    def _enter(self) -> Claim | None:
        """Enter a new trial, and withdraw it if others entered enough at the same moment.

        Numbers are given in order, so the first `wanted` of those that count stand and every process agrees on them.
        """
        token = uuid.uuid4().hex
        lock = self._lock(token)
        lock.acquire()
        fixed = {"fixed_params": self._again.pop()} if self._again else {}
        entry = create_trial(
            state=TrialState.RUNNING, user_attrs={OWNER: self.owner, TOKEN: token, BEAT: 0}, system_attrs=fixed
        )
        self.study.add_trial(entry)
        counted = self.counted()
        rank, *twice = [place for place, trial in enumerate(counted) if trial.user_attrs.get(TOKEN) == token]
        for place in twice:  # a database that went away after it had entered the trial was asked again
            self._lose(Trial(self.study, counted[place]._trial_id), "withdrawn: entered twice")
        trial = Trial(self.study, counted[rank]._trial_id)
        if rank < self.wanted:
            return Claim(trial, lock, resumed=False)
        self._lose(trial, "withdrawn: enough trials were entered")
        self.release(lock)
        return None

    def _watch(self, trial: FrozenTrial) -> None:
        beat, now = trial.user_attrs.get(BEAT), time.monotonic()
        before, since = self._seen.get(trial.number, (None, now))
        if before != beat or trial.number not in self._seen:
            self._seen[trial.number] = (beat, now)
        elif now - since > self.silent and self._lose(Trial(self.study, trial._trial_id), "no sign of life"):
            self._again.append(dict(trial.params))

    def _lose(self, trial: Trial, why: str) -> bool:
        """Mark a trial as lost; whether it was still running."""
        try:
            trial.set_user_attr(LOST, why)
        except UpdateFinishedTrialError:
            return False
        return finish(self.study, trial, state=TrialState.FAIL)

    def _lock(self, token: str) -> FileLock:
        return FileLock(self.locks / f"{token}.lock", thread_local=False)

    def release(self, lock: FileLock) -> None:
        """Let go of an ended trial's lock."""
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial failed by no fault of its own, and was or will be asked again."""
    return trial.state == TrialState.FAIL and LOST in trial.user_attrs


def finish(study: Study, trial: Trial, values: Sequence[float] | None = None, state: TrialState | None = None) -> bool:
    """Tell a trial's end; False when somebody has told it before, who then counts.

    Args:
        study: the study.
        trial: one of its running trials.
        values: of the objectives, in order; None where it failed or was pruned.
        state: how it ended; None: complete.
    """
    try:
        study.tell(trial.number, values, state=state)
    except (UpdateFinishedTrialError, ValueError) as error:
        if study.get_trials(deepcopy=False)[trial.number].state == TrialState.RUNNING:
            raise error
        return False
    return True


@contextmanager
def alive(trial: Trial) -> Iterator[None]:
    """Give a sign of life now and then while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        count = int(trial.user_attrs.get(BEAT, 0))
        while not ended.wait(BEAT_SECONDS):
            count += 1
            try:
                trial.set_user_attr(BEAT, count)
            except (UpdateFinishedTrialError, UserError):  # the fit's own next call tells the second
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
