"""One file from the network: resumable, checked, whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from filelock import FileLock

from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.paths import cache

Progress = Callable[[int, int], None]
_CHUNK = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """A file that somebody serves.

    Attributes:
        address: its URL.
        otherwise: what the user can do when it cannot be had, the end of a sentence.
        checksum: "ALGORITHM:HEX" (md5, sha256), or the first digits of it; "" where none is known.
        size: bytes, 0 where unknown.
    """

    address: str
    otherwise: str
    checksum: str = ""
    size: int = 0


def consent(what: str, yes: bool = False) -> None:
    """Ask whether something may be fetched that nothing can check.

    Args:
        what: a sentence without its full stop that says what is unverified.
        yes: the answer, where it was given beforehand; `BENCH_YES=1` gives it to every question.

    Raises:
        UserError: the answer is no, or there is no terminal to ask at.
    """
    if yes or os.environ.get("BENCH_YES") == "1":
        print(f"{what}; taken as it comes", file=sys.stderr)
        return
    if not sys.stdin.isatty():
        raise UserError(f"{what}; --yes or BENCH_YES=1 takes it as it comes")
    print(f"{what}. Take it as it comes? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"{what}, and was not fetched: the answer was no")


def download(file: RemoteFile, path: Path, progress: Progress | None = None) -> None:
    """Bring a file to `path`, unless it is there; a part that an earlier attempt left beside it is gone on with.

    Args:
        path: its folder exists; what is not whole and checked never gets this name.
        progress: called with (bytes done, bytes in all or 0).

    Raises:
        UserError: no connection, no space, or not what was to be served, by size or checksum.
    """
    lock = cache() / "locks" / f"{digest(str(path.absolute()))}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if path.is_file():
            return
        partial = path.with_name(f"{path.name}.partial")
        _transfer(file, partial, progress)
        try:
            check(file, partial)
        except UserError:
            # A wrong file must not be resumed.
            partial.unlink()
            raise
        os.replace(partial, path)


def check(file: RemoteFile, path: Path) -> None:
    """Compare size and checksum with what the provider publishes. Raises UserError when they differ."""
    size = path.stat().st_size
    if file.size and size != file.size:
        raise UserError(f"{file.address} gave {size} bytes where {file.size} were expected; fetch it again")
    if not file.checksum:
        return
    algorithm, _, wanted = file.checksum.partition(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if not found.startswith(wanted):
        raise UserError(
            f"{file.address} gave a file with {algorithm} {found} where {wanted} was expected; fetch it again"
        )


def _transfer(file: RemoteFile, partial: Path, progress: Progress | None) -> None:
    start = partial.stat().st_size if partial.is_file() else 0
    if file.size and start >= file.size:
        return
    headers = {"User-Agent": "deepmedix-bench", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with build_opener().open(Request(file.address, headers=headers), timeout=30) as answer:
            _receive(answer, partial, start, progress)
    except HTTPError as error:
        if error.code == 416 and start:
            # Nothing is left to send: the checksum decides whether the file is whole.
            return
        raise UserError(
            f"{file.address} answers {error.code} {error.reason}; try again later, or {file.otherwise}"
        ) from error
    except (HTTPException, OSError) as error:
        raise _explained(file, partial, error) from error


def _receive(answer: Any, partial: Path, start: int, progress: Progress | None) -> None:
    resumed = answer.status == 206
    length = answer.headers.get("Content-Length")
    done = start if resumed else 0
    total = done + int(length) if length and length.isdigit() else 0
    with partial.open("ab" if resumed else "wb") as target:
        while chunk := answer.read(_CHUNK):
            target.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    if total and done != total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")


def _explained(file: RemoteFile, partial: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space left for {partial}; free some and fetch again, it goes on where it stopped")
    proxy = next((f"{key}={os.environ[key]}" for key in ("https_proxy", "HTTPS_PROXY") if os.environ.get(key)), "")
    way = f"through the proxy {_without_password(proxy)}" if proxy else "directly (no https_proxy is set)"
    reason = getattr(error, "reason", None) or error
    return UserError(
        f"cannot fetch {file.address} {way}: {reason}; fetch again to go on where it stopped, or {file.otherwise}"
    )


def _without_password(proxy: str) -> str:
    head, _, host = proxy.rpartition("@")
    return f"{head.split('://')[0]}://...@{host}" if head else proxy
