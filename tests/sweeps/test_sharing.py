"""Several processes on one study: real commands, real databases, a real kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from sweeps.ledger import LOST, OWNER, TOKEN, Ledger, finish
from sweeps.study import open_storage
from tools.postgres import Postgres

TRIALS = 40
PLUGIN = """
from torch import nn
from models.backbones.registry import BACKBONES, Backbone
def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())
BACKBONES.register("tiny", Backbone("tiny", 8, tiny))
"""
# Long enough that a process which starts a little later still finds trials to share.
FIELDS = ["image_size=32", "epochs=12", "synthetic_images=60"]
SPACE = "[protocol]\nlearning_rate = { low = 1e-4, high = 1e-1, log = true }\n"


def start(
    tmp_path: Path, storage: str, name: str, folder: str = "run", trials: int = TRIALS, more: tuple[str, ...] = ()
) -> tuple[subprocess.Popen[bytes], Path]:
    """One process of the sweep, and the file that it writes to."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "space.toml").write_text(SPACE)
    said = tmp_path / f"{name}.txt"
    command = ["sweep", "linear@tiny", "--dataset", "phantom-brain", "--protocol", "demo", "--pruner", "none"]
    command += [word for field in FIELDS for word in ("--set", field)]
    command += ["--trials", str(trials), "--no-test", "--space", str(tmp_path / "space.toml"), "--progress", "plain"]
    command += ["--storage", storage, "--out", str(tmp_path / folder), "--plugin", str(tmp_path / "plugin.py"), *more]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *command], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
    return process, said


def begun(said: Path) -> list[int]:
    return [int(number) for number in re.findall(r"^trial (\d+)", said.read_text(), re.MULTILINE)]


def await_trials(said: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while len(begun(said)) < count:
        assert time.monotonic() < deadline, said.read_text()
        assert process.poll() is None, said.read_text()
        time.sleep(0.05)


def trials_of(storage: str) -> list[optuna.trial.FrozenTrial]:
    opened = open_storage(storage)
    (summary,) = optuna.get_all_study_summaries(opened)
    return optuna.load_study(study_name=summary.study_name, storage=opened).trials


def share(tmp_path: Path, storage: str, folders: tuple[str, str] = ("run", "run")) -> None:
    workers = [start(tmp_path, storage, f"worker{place}", folder) for place, folder in enumerate(folders)]
    assert [process.wait(timeout=400) for process, _ in workers] == [0, 0], [said.read_text() for _, said in workers]
    one, two = (begun(said) for _, said in workers)
    assert one
    assert two
    assert len(one) + len(two) == TRIALS
    counted = [trial for trial in trials_of(storage) if trial.state == TrialState.COMPLETE]
    assert sorted(one + two) == [trial.number for trial in counted]
    others = [trial for trial in trials_of(storage) if trial.state != TrialState.COMPLETE]
    assert all("withdrawn" in trial.user_attrs[LOST] for trial in others)


@pytest.fixture
def postgres(server: Postgres) -> str:
    return server.url


@pytest.mark.slow
def test_two_processes_share_an_sqlite_study(tmp_path: Path) -> None:
    share(tmp_path, f"sqlite:///{tmp_path / 'study.db'}")


@pytest.mark.slow
def test_two_processes_share_a_postgresql_study_without_a_common_folder(tmp_path: Path, postgres: str) -> None:
    share(tmp_path, postgres, ("here", "there"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_kill_loses_at_most_the_running_trial(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}" if kind == "sqlite" else request.getfixturevalue("postgres")
    victim, last_words = start(tmp_path, storage, "victim")
    survivor, said = start(tmp_path, storage, "survivor")
    await_trials(said, 1, survivor)
    await_trials(last_words, 3, victim)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert survivor.wait(timeout=400) == 0, said.read_text()
    trials = [trial for trial in trials_of(storage) if trial.state == TrialState.COMPLETE]
    assert len(trials) == TRIALS
    twice = set(begun(last_words)) & set(begun(said))
    assert len(twice) <= 1
    assert sorted({*begun(last_words), *begun(said)}) == [trial.number for trial in trials]
    # A process may die between entering its trial and saying so.
    resumed = re.findall(r"^trial \d+ goes on", said.read_text(), re.MULTILINE)
    assert len(twice) <= len(resumed) <= 1


@pytest.mark.long
def test_a_database_that_is_gone_for_twenty_seconds_costs_nothing(tmp_path: Path, server: Postgres) -> None:
    workers = [start(tmp_path, server.url, name, trials=24) for name in ("one", "two")]
    for process, said in workers:
        await_trials(said, 2, process)
    server.stop()
    time.sleep(20)
    assert [process.poll() for process, _ in workers] == [None, None]
    server.start()
    texts = []
    for process, said in workers:
        assert process.wait(timeout=500) == 0, said.read_text()
        texts.append(said.read_text())
    for text in texts:
        assert text.count("does not answer") == 1, text
        assert text.count("answers again after") == 1, text
        assert "asked again for 600 s, nothing is lost" in text
        assert "Traceback" not in text
    states = [trial.state for trial in trials_of(server.url) if LOST not in trial.user_attrs]
    assert states == [TrialState.COMPLETE] * 24
    begun_by = [begun(said) for _, said in workers]
    assert sorted(begun_by[0] + begun_by[1]) == sorted(set(begun_by[0] + begun_by[1]))


@pytest.mark.slow
def test_a_database_that_stays_away_ends_the_sweep_in_a_sentence(tmp_path: Path, server: Postgres) -> None:
    process, said = start(tmp_path, server.url, "one", trials=24, more=("--patience", "3"))
    await_trials(said, 2, process)
    server.stop()
    assert process.wait(timeout=200) == 2, said.read_text()
    assert "has not answered for 3 s" in said.read_text()
    assert "Traceback" not in said.read_text()
    server.start()
    assert all(trial.state in (TrialState.COMPLETE, TrialState.RUNNING) for trial in trials_of(server.url))


def test_a_trial_that_was_entered_twice_is_withdrawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    add = study.add_trial

    def twice(trial: optuna.trial.FrozenTrial) -> None:
        add(trial)  # the answer to this one was lost with the server
        add(trial)

    monkeypatch.setattr(study, "add_trial", twice)
    claim = Ledger(study, 2, tmp_path).claim()
    assert claim is not None
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    assert "entered twice" in study.trials[1].user_attrs[LOST]


def running(owner: str, token: str) -> optuna.trial.FrozenTrial:
    return create_trial(state=TrialState.RUNNING, user_attrs={OWNER: owner, TOKEN: token, "beat": 0})


def test_a_silent_trial_of_another_machine_is_lost_and_its_point_asked_again(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.add_trial(running("elsewhere:/run", "t"))
    far = optuna.trial.Trial(study, study.trials[0]._trial_id)
    far.suggest_float("x", 0, 1)
    ledger = Ledger(study, 1, tmp_path, silent=0.2)
    assert ledger.claim() is None
    time.sleep(0.15)
    far.set_user_attr("beat", 1)
    assert ledger.claim() is None
    time.sleep(0.1)
    assert ledger.claim() is None
    assert study.trials[0].state == TrialState.RUNNING
    time.sleep(0.25)
    claim = ledger.claim()
    assert claim is not None
    assert study.trials[0].state == TrialState.FAIL
    assert "no sign of life" in study.trials[0].user_attrs[LOST]
    assert claim.trial.suggest_float("x", 0, 1) == study.trials[0].params["x"]
    assert not finish(study, far, [0.5])
    assert finish(study, claim.trial, [0.5])
    ledger.release(claim.lock)
    assert ledger.finished() == 1


def test_of_too_many_trials_the_last_ones_are_withdrawn(tmp_path: Path) -> None:
    study = optuna.create_study()
    ledgers = [Ledger(study, 2, tmp_path / name) for name in ("a", "b", "c")]
    claims = [ledger._enter() for ledger in ledgers]
    assert [claim is not None for claim in claims] == [True, True, False]
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.RUNNING, TrialState.FAIL]
    assert ledgers[2].claim() is None
    assert [trial.number for trial in ledgers[2].counted()] == [0, 1]


def test_a_trial_whose_process_lives_is_not_taken(tmp_path: Path) -> None:
    study = optuna.create_study()
    here, beside = Ledger(study, 1, tmp_path), Ledger(study, 1, tmp_path)
    claim = here.claim()
    assert claim is not None
    assert beside.claim() is None
    claim.lock.release()
    adopted = beside.claim()
    assert adopted is not None
    assert adopted.resumed
    assert adopted.trial.number == claim.trial.number
