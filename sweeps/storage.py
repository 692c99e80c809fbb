"""Where studies are stored: a file of SQLite's, a journal, or a database server that may go away for a while."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from pydantic import ConfigDict, with_config
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from typing_extensions import TypedDict

from bench.core.atomic import out_of_space
from bench.core.errors import UserError
from bench.core.schema import parsed_json

T = TypeVar("T")
PATIENCE = 600.0
_JOURNALS = (".log", ".journal")
_TRIES, _AGAIN_SECONDS = 5, 2.0
UNUSABLE = (SQLAlchemyError, StorageInternalError)
_AGAIN = "name another --storage, or move it away for a new study"


@with_config(ConfigDict(extra="allow"))
class _Entry(TypedDict):
    """A line of Optuna's journal; the rest of it depends on the operation."""

    op_code: int
    worker_id: str


class StorageGone(UserError):
    """A database server did not answer for as long as it was waited for; what was running is taken up again later."""


class PatientStorage(RDBStorage):
    """A database server's storage that asks again while the server is gone.

    What is said: one sentence when it goes, one when it is back.

    Args:
        url: as SQLAlchemy takes it.
        patience: seconds in a row without an answer.

    Raises:
        StorageGone: from any call, after so long.
    """

    def __init__(self, url: str, patience: float) -> None:
        self._shown, self._patience = without_password(url), patience
        self._inside, self._lock = threading.local(), threading.Lock()
        self._gone: float | None = None
        super().__init__(url, engine_kwargs={"pool_pre_ping": True})

    def _patiently(self, ask: Callable[[], T]) -> T:
        if getattr(self._inside, "asking", False):  # a call within a call
            return ask()
        self._inside.asking = True
        try:
            while True:
                try:
                    found = ask()
                except (OperationalError, InterfaceError, StorageInternalError) as error:
                    if not isinstance(_cause(error), (OperationalError, InterfaceError)):
                        raise
                    self._wait(_reason(error))
                else:
                    self._answered()
                    return found
        finally:
            self._inside.asking = False

    def _answered(self) -> None:
        with self._lock:
            if self._gone is not None:
                _say(f"the study's database answers again after {time.monotonic() - self._gone:.0f} s")
            self._gone = None

    def _wait(self, reason: str) -> None:
        about = f"the study's database {self._shown}"
        with self._lock:
            if self._gone is None:
                self._gone = time.monotonic()
                _say(f"{about} does not answer ({reason}); asked again for {self._patience:.0f} s, nothing is lost")
            silent = time.monotonic() - self._gone
        if silent > self._patience:
            raise StorageGone(
                f"{about} has not answered for {self._patience:.0f} s ({reason}); trials and cells are kept, start the "
                "same command again when it is back"
            )
        time.sleep(_AGAIN_SECONDS)


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @wraps(method)
    def call(self: PatientStorage, *arguments: Any, **named: Any) -> Any:
        return self._patiently(lambda: method(self, *arguments, **named))

    return call


# Optuna's cache in front of the storage calls the private ones.
for _name in [
    *(name for name in BaseStorage.__dict__ if not name.startswith("_") and callable(getattr(RDBStorage, name))),
    *("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials"),
]:
    setattr(PatientStorage, _name, _patient(_name))


def _cause(error: Exception) -> BaseException:
    """What the database said; Optuna wraps what happens while it commits."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error


def _reason(error: Exception) -> str:
    cause = _cause(error)
    return (str(getattr(cause, "orig", cause)).strip().splitlines() or [""])[0]


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


@contextmanager
def usable(storage: str) -> Iterator[None]:
    """Say in one sentence that a study's storage cannot be used. Raises UserError."""
    try:
        yield
    except UNUSABLE as error:
        about, reason = f"the study in {without_password(storage)}", _reason(error)
        if "disk is full" in reason:
            raise UserError(f"no space left for {about}; free some and start again, nothing is lost") from error
        raise UserError(f"{about} cannot be used: {reason}; {_AGAIN}") from error


@contextmanager
def readable(storage: str) -> Iterator[None]:
    """Say in one sentence that a study is damaged, whatever Optuna stumbles over in it. Raises UserError."""
    try:
        with usable(storage):
            yield
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError, OSError) as error:
        if out_of_space(error):
            raise
        about, reason = f"the study in {without_password(storage)}", _reason(error) or type(error).__name__
        raise UserError(f"{about} is damaged: {reason}; {_AGAIN}") from error


def open_storage(storage: str, patience: float = PATIENCE) -> BaseStorage:
    """A database by URL, or a journal file by its ending (.log, .journal).

    Args:
        patience: seconds for which a database server that is gone later is asked again.

    Raises:
        UserError: the driver is not installed, the database does not answer, or the file is no study.
    """
    if "://" not in storage:
        return _journal(Path(storage))
    if storage.rstrip("/") == "sqlite:" or storage == "sqlite:///:memory:":
        raise UserError(f"--storage {storage} names no file, and would keep nothing; write sqlite:///FILE")
    if storage.startswith("sqlite:///"):
        path = Path(storage.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that both find the file new would both make its tables.
        with FileLock(path.with_name(f"{path.name}.lock")), usable(storage):
            return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 120}})
    return _database(storage, patience)


def _journal(path: Path) -> JournalStorage:
    if path.suffix not in _JOURNALS:
        raise UserError(
            f"--storage takes a URL (sqlite:///FILE, postgresql://..., mysql://...) or a journal file that ends in "
            f"{' or '.join(_JOURNALS)}, not {str(path)!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_journal(path)
    lock = JournalFileSymlinkLock(str(path))
    if path.is_file():
        _cut_unfinished(path, lock)
    return JournalStorage(JournalFileBackend(str(path), lock))


def _cut_unfinished(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Take the half of an entry off that a killed process left: Optuna would write the next one behind it."""
    with path.open("rb+") as file:
        if not _unfinished(file):
            return
        lock.acquire()
        try:
            # Whoever held the lock may have finished it meanwhile.
            file.truncate(file.seek(0, os.SEEK_END) - _unfinished(file))
        finally:
            lock.release()


def _unfinished(file: BinaryIO) -> int:
    """The bytes behind the last end of a line."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    whole = sum(len(line) for line in file if line.endswith(b"\n"))
    return size - whole


def _check_journal(path: Path) -> None:
    """Refuse what is no journal; an unfinished last line is what a killed process leaves."""
    if path.exists() and not path.is_file():
        raise UserError(f"--storage {path} is no file; {_AGAIN}")
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                parsed_json(f"--storage {path}, line {number}:", line, _Entry, _AGAIN, nan=True)
            elif not line.startswith(b"{"):
                raise UserError(f"--storage {path}: line {number} is no entry of a study's journal; {_AGAIN}")


def _database(url: str, patience: float) -> RDBStorage:
    """A server's storage; whoever loses the race for making the tables finds them made at the next try."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    for attempt in range(_TRIES):
        try:
            return PatientStorage(url, patience)
        except ImportError as error:
            raise UserError(
                f"--storage {without_password(url)}: the database's driver is missing; pip install 'psycopg[binary]' "
                "for postgresql+psycopg://, or pymysql for mysql+pymysql://"
            ) from error
        except SQLAlchemyError as error:
            if attempt == _TRIES - 1 or not isinstance(error, DBAPIError):
                reason = str(error).splitlines()[0]
                raise UserError(f"--storage {without_password(url)} cannot be used: {reason}") from error
            time.sleep(0.5 * (attempt + 1))
    raise AssertionError("unreachable")


def without_password(url: str) -> str:
    """A storage's URL as it can be shown; a file's name, and what is no URL, as it is."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url
