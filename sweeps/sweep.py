"""A sweep from its command to its end: the study, the chosen protocol, and the test set for it and the default."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from bench.core.atomic import write_text
from bench.core.config import Runtime
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.data.splits import expand
from bench.executors.driver import Stop
from bench.executors.run import prepare_folder
from bench.executors.show import execute_shown, show_plan
from bench.harness.plan import Plan, Request, make_plan, together
from bench.store.layout import study_locks, study_protocol, study_storage
from bench.store.run import Run
from models.registry import MODELS
from sweeps.ledger import PROBLEM, Ledger
from sweeps.objectives import Objective, judged, parse_objectives
from sweeps.record import record
from sweeps.space import Choice, Space, default_space, load_space
from sweeps.storage import PATIENCE, usable
from sweeps.study import Settings, check_pruner, front, open_study
from sweeps.target import Target, protocol_toml, settle
from sweeps.worker import Sweep, work


@dataclass(frozen=True)
class Asked:
    """What `bench sweep` was asked for, as it was typed."""

    request: Request
    trials: int
    objectives: tuple[str, ...]
    folder: Path
    runtime: Runtime
    space: Path | None = None
    storage: str | None = None
    pruner: str | None = None
    best: Path | None = None
    test: bool = True
    patience: float = PATIENCE


def run_sweep(asked: Asked, console: Console) -> dict[str, Any]:
    """Run trials beside whoever shares the study, write the best protocol, and run it beside the default.

    Returns:
        {"run", "study", "trials": {state: count}, "best", "protocol", "record", "cells", "complete", "report"}.

    Raises:
        UserError: before the first trial for whatever the command says wrongly; after the last when all failed.
    """
    sweep, default = prepare(asked)
    prepare_folder(Plan([], default.tables, {}), Run.create(asked.folder), _command())
    storage = f"sqlite:///{study_storage(asked.folder)}" if asked.storage is None else asked.storage
    stop = Stop()
    with usable(storage):
        study = open_study(sweep.settings, storage, asked.patience)
        ledger = Ledger(study, sweep.settings.wanted, study_locks(asked.folder))
        display = Display(console, sweep, study, ledger)
        display.head(asked)
        with stop.listening():
            work(sweep, study, ledger, display, stop)
        return conclude(asked, sweep, study, ledger, default, console, stop.requested)


def prepare(asked: Asked) -> tuple[Sweep, Plan]:
    """Check everything that can be checked before the first trial; the sweep, and the default's cells on test.

    Raises:
        UserError: in one sentence.
    """
    request = asked.request
    MODELS.get(request.models)
    space = load_space(
        asked.space or default_space(MODELS.get(request.models).family, request.regimes), request.regimes
    )
    default = make_plan(request)
    if len(default.tables) != 1 or len({cell.spec.regime for cell in default.cells}) != 1:
        raise UserError("bench sweep takes one --dataset and one --regime; sweep the others in runs of their own")
    (table,) = default.tables.values()
    splits = expand(table, request.split)
    if len(splits) != 1:
        raise UserError(f"{table.name} has {len(splits)} folds: name the one to search on, as in --split {splits[0]}")
    objectives = tuple(parse_objectives(asked.objectives, table.classes, request.regimes))
    base = Target(request.models, request.regimes, request.protocol)
    settings = _settings(asked, space, objectives, default, judged(table.classes))
    check_pruner(settings)
    seed = default.cells[0].spec.seed
    return Sweep(base, table, splits[0], seed, space, settings, asked.folder, asked.runtime), default


def _settings(
    asked: Asked, space: Space, objectives: tuple[Objective, ...], default: Plan, quality: Sequence[str]
) -> Settings:
    promising = len(objectives) == 1 and objectives[0].column in quality
    pruner = asked.pruner or ("hyperband" if promising else "none")
    spec = default.cells[0].spec
    meaning = [default.cells[0].key, space.as_dict(), [str(one) for one in objectives], pruner]
    # Earlier versions refitted the trials of such a base: their metrics must not stand in one study with these.
    meaning += ["trials never refit"] if spec.protocol.refit else []
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{spec.model}-{spec.dataset}-{spec.regime}")
    return Settings(f"{readable}-{digest(meaning, 8)}", objectives, asked.trials, pruner, _longest(asked, space))


def _longest(asked: Asked, space: Space) -> int:
    """Epochs or rounds of the longest trial."""
    protocol = asked.request.protocol
    found = [protocol.epochs, protocol.federated.rounds or 1]
    searched = [one.domain for one in space.dimensions if one.name in ("epochs", "federated.rounds")]
    longest = [max(domain.values) if isinstance(domain, Choice) else domain.high for domain in searched]
    return int(max([*found, *longest]))


def conclude(
    asked: Asked, sweep: Sweep, study: Study, ledger: Ledger, default: Plan, console: Console, stopped: bool
) -> dict[str, Any]:
    """Choose, write the protocol and the record, and run the test set unless the sweep was stopped.

    Args:
        asked: what the user asked for.
        sweep: the search.
        study: its trials.
        ledger: their ends.
        default: the plan of the cells on the test set.
        console: where it is said.
        stopped: whether the user stopped the search.
    """
    best = front(study, sweep.settings.objectives)
    whole = ledger.finished() >= sweep.settings.wanted and not stopped
    outcome: dict[str, Any] = {"run": str(asked.folder), "study": sweep.settings.name, "complete": whole}
    outcome |= {"trials": counts(ledger), "best": None, "cells": {}, "protocol": None}
    if not best:
        outcome["record"] = str(record(sweep, study, ledger, None, {}))
        return outcome
    tuned = settle(sweep.base, study.trials[best[0]].params)
    outcome |= {"best": best_entry(study, best, sweep), "protocol": str(_write_protocol(asked, sweep, study, tuned))}
    plan = make_plan(
        replace(asked.request, models=tuned.model, regimes=tuned.regime, protocol=tuned.protocol)
    )  # fmt: skip
    cells = {"default": [cell.key for cell in default.cells], "tuned": [cell.key for cell in plan.cells]}
    outcome |= {"cells": cells, "record": str(record(sweep, study, ledger, tuned, cells))}
    if asked.test and whole:
        outcome |= _test(asked, together(default, plan), console)
    return outcome


def _test(asked: Asked, plan: Plan, console: Console) -> dict[str, Any]:
    from reports.write import draw

    run = Run.create(asked.folder)
    pending = show_plan(console, plan, run)
    summary = execute_shown(console, plan, run, asked.runtime, len(pending))
    page = draw(run.path, console)
    return {"complete": summary.failed == 0 and not summary.stopped, "report": str(page)}


def _write_protocol(asked: Asked, sweep: Sweep, study: Study, tuned: Target) -> Path:
    """The best trial's protocol, in the run and where it was asked for."""
    path = asked.best or study_protocol(asked.folder, sweep.settings.name)
    request = asked.request
    words = ["bench", "run", "--models", tuned.model, "--datasets", request.datasets, "--regimes", tuned.regime]
    words += ["--split", request.split, "--protocol", str(path)]
    number = front(study, sweep.settings.objectives)[0]
    about = f"Trial {number} of {sweep.settings.name}, the best of {len(study.trials)} by validation.\n"
    write_text(path, protocol_toml(tuned.protocol, about + shlex.join(words)))
    return path


def best_entry(study: Study, best: list[int], sweep: Sweep) -> dict[str, Any]:
    """The best trial, and the numbers of those that share the front with it.

    Args:
        study: the trials.
        best: numbers of the trials that none beats; the first is chosen.
        sweep: the search.
    """
    trial = study.trials[best[0]]
    columns = [one.column for one in sweep.settings.objectives]
    values = dict(zip(columns, trial.values, strict=True))
    return {"number": trial.number, "params": trial.params, "values": values, "front": best}


def counts(ledger: Ledger) -> dict[str, int]:
    """How many trials ended in which way."""
    states = [trial.state for trial in ledger.counted()]
    kinds = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    return {kind.name.lower(): states.count(kind) for kind in kinds}


def _command() -> str:
    return " ".join(["bench", *sys.argv[1:]])


@dataclass(frozen=True)
class Display:
    """A line when a trial begins and one when it ends."""

    console: Console
    sweep: Sweep
    study: Study
    ledger: Ledger

    def head(self, asked: Asked) -> None:
        """Say what is searched."""
        settings = self.sweep.settings
        wanted = ", ".join(str(one) for one in settings.objectives)
        self._line(f"{settings.wanted} trials for {wanted}, pruner {settings.pruner} → {asked.folder}")
        self._line(f"  space {self.sweep.space.source}: {', '.join(one.name for one in self.sweep.space.dimensions)}")
        self._line(f"  study {settings.name}; {self.ledger.finished()} trials have ended already")

    def started(self, number: int, params: dict[str, Any], resumed: bool) -> None:
        """Name the trial's values.

        Args:
            number: of the trial.
            params: its values by field.
            resumed: whether another process had begun it.
        """
        if self.sweep.runtime.progress != "none":
            values = "  ".join(f"{name} {_short(value)}" for name, value in params.items())
            self._line(f"trial {number}{' goes on' if resumed else ''}: {values}")

    def ended(self, trial: FrozenTrial) -> None:
        """Say how it ended, and leave what is known by now in the run's folder."""
        record(self.sweep, self.study, self.ledger, None, {})
        if self.sweep.runtime.progress == "none":
            return
        done = f"[{self.ledger.finished()}/{self.sweep.settings.wanted}]"
        if trial.state == TrialState.COMPLETE:
            columns = [one.column for one in self.sweep.settings.objectives]
            values = "  ".join(f"{name} {value:.5g}" for name, value in zip(columns, trial.values, strict=True))
            best = front(self.study, self.sweep.settings.objectives)
            mark = "  (on the front)" if len(columns) > 1 else "  (best so far)"
            self._line(f"    {done} {values}{mark if trial.number in best else ''}")
        else:
            reason = trial.user_attrs.get(PROBLEM, "")
            self._line(f"    {done} {trial.state.name.lower()}{f': {reason}' if reason else ''}")

    def waiting(self, count: int) -> None:
        """Say for whom is waited, and for how long at most."""
        silent = f"{self.ledger.silent:.0f} s without a sign of life"
        self._line(f"waiting for {count} trials that other processes run; one that is {silent} is asked again")

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)
