"""Paths that the user named are sentences; programming errors keep their traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bench.cli import door
from bench.core.errors import UserError


def test_windows_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="Windows is not supported"):
        door.check_platform("win32")
    door.check_platform("linux")


@pytest.mark.parametrize("argument", ["\udcff.json", "a\0b"])
def test_arguments_that_are_no_text_are_refused(argument: str) -> None:
    with pytest.raises(UserError, match="is not UTF-8 text"):
        door.check_arguments(["run", argument])


def _fail(number: int, path: str) -> None:
    raise OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EEXIST])
def test_an_error_of_a_named_path_is_a_sentence(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "run" / "plan.json")
    monkeypatch.setattr("sys.argv", ["bench", "report", str(tmp_path / "run")])
    with pytest.raises(UserError, match=f"{path}: {os.strerror(number)}"):
        door.guarded(lambda: _fail(number, path))


def test_other_errors_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "report", str(tmp_path / "run")])
    with pytest.raises(FileNotFoundError):
        door.guarded(lambda: _fail(errno.ENOENT, "/nowhere/template.html"))
    with pytest.raises(ChildProcessError):
        door.guarded(lambda: _fail(errno.ECHILD, str(tmp_path / "run")))
