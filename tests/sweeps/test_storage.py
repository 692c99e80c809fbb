"""Storages that cannot be used: each is a sentence; and a database server that goes away and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console
from sqlalchemy.exc import OperationalError

from bench.core.errors import UserError
from sweeps import storage
from sweeps.storage import PatientStorage, StorageGone, open_storage
from sweeps.sweep import run_sweep
from tools.postgres import Postgres


def folder_as_sqlite(tmp_path: Path) -> str:
    (tmp_path / "study.db").mkdir()
    return f"sqlite:///{tmp_path / 'study.db'}"


def garbage_as_sqlite(tmp_path: Path) -> str:
    (tmp_path / "study.db").write_bytes(b"no database\n" * 500)
    return f"sqlite:///{tmp_path / 'study.db'}"


def garbage_as_journal(tmp_path: Path) -> str:
    (tmp_path / "study.log").write_text("garbage\nmore\n")
    return str(tmp_path / "study.log")


def other_json_as_journal(tmp_path: Path) -> str:
    (tmp_path / "study.log").write_text('{"op_code": "first"}\n')
    return str(tmp_path / "study.log")


def folder_as_journal(tmp_path: Path) -> str:
    (tmp_path / "study.log").mkdir()
    return str(tmp_path / "study.log")


DAMAGED: list[tuple[Callable[[Path], str], str]] = [
    (folder_as_sqlite, "unable to open database file"),
    (garbage_as_sqlite, "file is not a database"),
    (garbage_as_journal, "line 1"),
    (other_json_as_journal, "line 1.*op_code"),
    (folder_as_journal, "is no file"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGED)
def test_a_damaged_study_is_a_sentence(
    tmp_path: Path, make_asked: Callable[..., Any], silent: Console, damage: Callable[[Path], str], words: str
) -> None:
    with pytest.raises(UserError, match=f"{words}.*name another --storage"):
        run_sweep(make_asked(trials=1, storage=damage(tmp_path)), silent)


def test_a_study_damaged_within_is_a_sentence(tmp_path: Path, make_asked: Callable[..., Any], silent: Console) -> None:
    """The file opens, and a column in it is gone."""
    import sqlite3

    path = tmp_path / "study.db"
    open_storage(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE trials RENAME COLUMN state TO other")
    with pytest.raises(UserError, match=r"no (such )?column.*state.*name another --storage"):
        run_sweep(make_asked(trials=1, storage=f"sqlite:///{path}"), silent)


def test_a_journal_whose_last_line_a_kill_cut_off_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    optuna.create_study(storage=open_storage(str(path)), study_name="one")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    assert [one.study_name for one in open_storage(str(path)).get_all_studies()] == ["one"]
    # What is written next stands on a line of its own.
    optuna.create_study(storage=open_storage(str(path)), study_name="two")
    assert [one.study_name for one in open_storage(str(path)).get_all_studies()] == ["one", "two"]
    assert path.read_bytes().startswith(whole + b"{")


def test_an_empty_storage_is_not_taken_for_none(make_asked: Callable[..., Any], silent: Console) -> None:
    with pytest.raises(UserError, match="--storage takes a URL"):
        run_sweep(make_asked(trials=1, storage=""), silent)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_study_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="names no file, and would keep nothing"):
        open_storage(url)


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatientStorage:
    monkeypatch.setattr(storage, "_AGAIN_SECONDS", 0.01)
    return PatientStorage(f"sqlite:///{tmp_path / 'study.db'}", patience=0.3)


def failing(times: int, patient: PatientStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, left = patient.scoped_session, [times]

    def session() -> Any:
        if left[0]:
            left[0] -= 1
            raise OperationalError("select 1", {}, Exception("server closed the connection unexpectedly\nmore"))
        return sessions()

    monkeypatch.setattr(patient, "scoped_session", session)


def test_a_server_that_comes_back_is_told_once_each_way(
    patient: PatientStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(3, patient, monkeypatch)
    optuna.create_study(storage=patient, study_name="one").optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    said = capsys.readouterr().err
    assert said.count("does not answer (server closed the connection unexpectedly)") == 1
    assert said.count("answers again after") == 1


def test_a_server_that_stays_away_is_an_error_in_one_sentence(
    patient: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(10**6, patient, monkeypatch)
    with pytest.raises(StorageGone, match=r"has not answered for 0 s .*start the same command again"):
        patient.get_all_studies()


def test_a_full_disk_under_a_study_is_no_damage() -> None:
    with (
        pytest.raises(UserError, match=r"no space left for the study in sqlite:///study.db; free some and start again"),
        storage.usable("sqlite:///study.db"),
    ):
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))


def test_a_postgresql_server_that_was_stopped_and_started_has_lost_nothing(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storage, "_AGAIN_SECONDS", 0.2)
    study = optuna.create_study(storage=open_storage(server.url, patience=60))
    trial = study.ask()
    assert 0 <= trial.suggest_float("x", 0, 1) <= 1
    server.stop()
    threading.Timer(2, server.start).start()
    study.tell(trial, 0.5)
    other = study.ask()
    study.tell(other, 0.7)
    assert [one.value for one in study.trials] == [0.5, 0.7]
    said = capsys.readouterr().err
    assert said.count("does not answer") == said.count("answers again after") == 1
    assert "Traceback" not in said
