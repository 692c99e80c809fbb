"""Files that are either whole or not there: temporary file, flush, fsync, rename."""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.core.errors import UserError

_TEMPORARY = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{8}\.tmp")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that takes the place of `path` when the block ends well.

    A symbolic link at `path` stays one: the file that it leads to is replaced.

    Raises:
        UserError: the disk is full, the path cannot be written, or something stands there that is no regular file; it
            stays as it was.
    """
    path = _target(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise UserError(f"no space left to write {path}; free some and start again, nothing is lost") from error
        if error.filename is not None and path.is_relative_to(Path(os.fsdecode(error.filename)).parent):
            raise UserError(f"{path} cannot be written: {error.strerror}; name another place") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def out_of_space(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        error = error.__cause__
    return False


def _target(path: Path) -> Path:
    try:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        odd = path.exists() and not path.is_file()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; name another place") from error
    if odd:
        raise UserError(f"{path} is no regular file and is not replaced; name a file or a new path")
    return path


def sweep_temporaries(folder: Path, lock_of: Callable[[str], Path]) -> None:
    """Remove the temporary files that killed processes left in a folder.

    A file goes when the lock that its writer held is free; who holds one now is left alone. Call it holding none.

    Args:
        lock_of: the lock of a file, by its name, which each of its writers holds while it writes.
    """
    from filelock import FileLock, Timeout

    for leftover in folder.glob(".*.tmp"):
        found = _TEMPORARY.fullmatch(leftover.name)
        if found is None:
            continue
        try:
            with FileLock(lock_of(found[1]), timeout=0):
                leftover.unlink(missing_ok=True)
        except Timeout:
            continue


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically. Raises ValueError for NaN, which JSON has not."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
