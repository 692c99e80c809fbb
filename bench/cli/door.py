"""Where the command line begins and ends: arguments that can be used, and which errors are a user's mistake."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.core.errors import UserError

# What a path can be wrong in; anything else that the system refuses is no mistake of the user's.
_OF_PATHS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.ENXIO, errno.EINVAL,
}  # fmt: skip
_LONGEST = 1200
_FOLDERS = ("BENCH_HOME", "BENCH_CACHE")


def guarded(command: Callable[[], None]) -> None:
    """Run the command line.

    Raises:
        UserError: this is Windows, an argument is no text, or a path that the user named cannot be used.
    """
    check_platform(sys.platform)
    check_arguments(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        # A name or a line of a table that the terminal's encoding lacks must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except OSError as error:
        named = named_by_user(error, sys.argv[1:])
        if named is None:
            raise
        raise UserError(f"{named}: {error.strerror}; name another path") from error


def sentence(text: str) -> str:
    """A refusal as the terminal gets it: one line of at most `_LONGEST` characters, nothing that steers a terminal.

    It may quote a stranger's file: control characters and those that turn the direction of writing are escaped.
    """
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in _joined(text))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 300]} [...] {line[-290:]}"


def _joined(text: str) -> str:
    return " ".join(part for part in text.splitlines() if part.strip())


def check_platform(platform: str) -> None:
    """Refuse what the processes, signals and synced folders of a run are not made for. Raises UserError."""
    if platform == "win32":
        raise UserError("Windows is not supported; use Linux, macOS, or the Windows Subsystem for Linux")


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8 and NUL, which no file and no JSON can hold. Raises UserError naming the first."""
    for argument in arguments:
        if "\0" in argument or any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(f"the argument {argument!a} is not UTF-8 text; rename what it names")


def named_by_user(error: OSError, arguments: Sequence[str]) -> str | None:
    """The path of an error, where it is one that the user named, or lies below it or around it; None elsewhere."""
    if error.errno not in _OF_PATHS or not isinstance(error.filename, (str, bytes)):
        return None
    path = _whole(os.fsdecode(error.filename))
    texts = [text for argument in arguments for text in (argument, argument.partition("=")[2]) if text]
    given = [*texts, *(value for name in _FOLDERS if (value := os.environ.get(name)))]
    named = [_whole(text) for text in given if not text.startswith("-")]
    # The default of --out lies below the folder in which the command was started.
    known = any(path.is_relative_to(one) or one.is_relative_to(path) for one in [*named, _whole("runs")])
    return str(path) if known else None


def _whole(text: str) -> Path:
    # Links are kept: an error tells the path as it was named.
    return Path(os.path.normpath(Path.cwd() / text))
