"""Files that are either whole or not there: temporary file, flush, fsync, rename."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bench.core.errors import UserError

_TEMPORARY = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{8}\.tmp")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_waiting: ContextVar[list[Path] | None] = ContextVar("waiting", default=None)


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
        waiting = _waiting.get()
        if waiting is None:
            _sync(temporary)
        os.replace(temporary, path)
        if waiting is None:
            _sync(path.parent)
        else:
            waiting.append(path)
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


@contextmanager
def together() -> Iterator[None]:
    """Bring what is replaced inside the block to the disk all at once when it ends, not file by file.

    The disk then writes one journal for all of them. For files that count for nothing until another one is written
    after the block: if the machine loses its power inside it, they may be empty. A block within another is part of it.

    Raises:
        UserError: the disk is full.
    """
    if _waiting.get() is not None:
        yield
        return
    paths: list[Path] = []
    token = _waiting.set(paths)
    try:
        yield
    finally:
        _waiting.reset(token)
    _sync_all(paths)


def _sync_all(paths: list[Path]) -> None:
    files = list(dict.fromkeys(path for path in paths if path.exists()))
    if not files:
        return
    try:
        with ThreadPoolExecutor(len(files)) as pool:
            list(pool.map(_sync, files))
        for folder in dict.fromkeys(path.parent for path in files):
            _sync(folder)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise UserError(f"no space left to write {files[0]}; free some and start again, nothing is lost") from error
        raise


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
    write_text(path, indented(value) + "\n")


def indented(value: object, depth: int = 1) -> str:
    """What `json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)` gives, four times as fast.

    With an indent json leaves its encoder in C for one in Python. That one is given whatever has no container inside.

    Raises:
        ValueError: NaN, which JSON has not.
        TypeError: what is no JSON value.
    """
    if not isinstance(value, dict | list | tuple) or not value:
        return _plain(value, ", ")
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    pad = "\n" + " " * depth
    inside = value.values() if isinstance(value, dict) else value
    if not any(isinstance(item, dict | list | tuple) for item in inside):
        content = _plain(value, "," + pad)[1:-1]
    elif isinstance(value, dict):
        content = f",{pad}".join(f"{_key(name)}: {indented(item, depth + 1)}" for name, item in value.items())
    else:
        content = f",{pad}".join(indented(item, depth + 1) for item in value)
    return f"{opening}{pad}{content}{pad[:-1]}{closing}"


@functools.lru_cache(maxsize=64)
def _encoder(separator: str) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(separator, ": "))


def _plain(value: object, separator: str) -> str:
    return _encoder(separator).encode(value)


def _key(name: Any) -> str:
    # A number, a truth value or None becomes text as json has it.
    return _plain(name, ", ") if isinstance(name, str) else _plain({name: 0}, ", ")[1:].rpartition(":")[0]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
