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


def test_a_refusal_is_one_line_that_steers_no_terminal() -> None:
    assert door.sentence("a\x1b[31m b\n\n c\u202e ü é 日本") == r"a\x1b[31m b  c\u202e ü é 日本"
    long = door.sentence("x" * 5000)
    assert len(long) < 1201
    assert "[...]" in long


@pytest.mark.slow
def test_a_terminal_of_latin_letters_gets_its_sentence() -> None:
    from tests.fuzz.generators.nonsense import Invocation
    from tests.fuzz.harness import in_a_process

    assert in_a_process(Invocation(["models", "show", "日本"], (2,))) == (2, "")
    assert in_a_process(Invocation(["data", "add", "x", "/nowhere/日本\udce9"], (2,))) == (2, "")
