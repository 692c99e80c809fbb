"""Fetching a dataset from its provider: resumable, checked, unpacked safely, complete or not there at all.

Files gather in `fetched/.NAME.part` and the folder is renamed to `fetched/NAME` when the last one is checked and
unpacked, so that an interrupted fetch leaves nothing that looks complete and goes on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from bench.core.atomic import write_json
from bench.core.errors import UserError
from bench.core.paths import home
from bench.data.spec import DatasetSpec, Download

_MARKER = ".complete.json"
_CHUNK = 2**18
Progress = Callable[[int, int], None]


def fetched_folder(name: str) -> Path | None:
    """The folder of a dataset that was fetched completely, or None."""
    folder = _target(name)
    return folder if (folder / _MARKER).is_file() else None


def _target(name: str) -> Path:
    return home() / "fetched" / quote(name, safe="")


def fetch_dataset(name: str, accept_licence: bool, progress: Progress | None = None) -> Path:
    """Bring a dataset and return its folder; one that was brought already is left as it is.

    Args:
        progress: called with (bytes done, bytes in all or 0) of the file at hand.

    Raises:
        UnknownName: no such dataset.
        UserError: it cannot be fetched (with the steps that bring it), the licence is not accepted, the machine is
            offline, or what came is not what the provider publishes.
    """
    from filelock import FileLock

    from bench.data.registry import DATASETS

    spec = DATASETS.get(name)
    if spec.same_files_as:
        return fetch_dataset(spec.same_files_as, accept_licence, progress)
    if not spec.downloads:
        raise UserError(f"{spec.name} cannot be fetched by a program: {spec.hint}")
    target = _target(spec.name)
    if (target / _MARKER).is_file():
        return target
    if not accept_licence:
        raise UserError(
            f"{spec.name} is under the licence {spec.licence!r} (see {spec.address}); "
            f"if you keep to it: bench data fetch {spec.name} --accept-licence"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock"):
        return _fetch(spec, target, progress)


def _fetch(spec: DatasetSpec, target: Path, progress: Progress | None) -> Path:
    if (target / _MARKER).is_file():
        return target
    if target.exists():
        raise UserError(f"{target} is in the way of the fetched {spec.name}; move it aside")
    part = target.with_name(f".{target.name}.part")
    part.mkdir(exist_ok=True)
    for file in spec.downloads:
        bring(file, part, progress)
    files = [{"address": file.address, "name": file.filename, "checksum": file.checksum} for file in spec.downloads]
    write_json(part / _MARKER, {"name": spec.name, "licence": spec.licence, "files": files})
    os.replace(part, target)
    return target


def bring(file: Download, folder: Path, progress: Progress | None = None) -> None:
    """Download one file into a folder, check it, unpack it. What was brought by an earlier attempt is not repeated.

    Raises:
        UserError: no connection, a wrong size or checksum, or an archive that will not do.
    """
    from bench.data.download.unpack import unpack

    done = folder / f".{file.filename}.done"
    if done.is_file():
        return
    path = folder / file.filename
    if not path.is_file():
        _download(file, path, progress)
    if file.unpack:
        unpack(path, folder / path.stem)
        path.unlink()
    done.touch()


def _download(file: Download, path: Path, progress: Progress | None) -> None:
    partial = path.with_name(f"{path.name}.partial")
    _transfer(file, partial, progress)
    try:
        check(file, partial)
    except UserError:
        # A wrong file must not be resumed.
        partial.unlink()
        raise
    os.replace(partial, path)


def _transfer(file: Download, partial: Path, progress: Progress | None) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, build_opener

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
        raise UserError(f"{file.address} answers {error.code} {error.reason}; {_ADVICE}") from error
    except (HTTPException, OSError) as error:
        raise _explained(file, partial, error) from error


def _receive(answer: object, partial: Path, start: int, progress: Progress | None) -> None:
    resumed = getattr(answer, "status", 200) == 206
    length = getattr(answer, "headers", {}).get("Content-Length")
    done = start if resumed else 0
    total = done + int(length) if length and length.isdigit() else 0
    with partial.open("ab" if resumed else "wb") as target:
        while chunk := answer.read(_CHUNK):  # type: ignore[attr-defined]
            target.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    if total and done != total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")


_ADVICE = "try again later, or put the files in place by hand and use `bench data add`"


def _explained(file: Download, partial: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"no space left for {partial}; free some and fetch again, it goes on where it stopped")
    proxy = next((f"{key}={os.environ[key]}" for key in ("https_proxy", "HTTPS_PROXY") if os.environ.get(key)), "")
    way = f"through the proxy {_without_password(proxy)}" if proxy else "directly (no https_proxy is set)"
    reason = getattr(error, "reason", None) or error
    return UserError(
        f"cannot fetch {file.address} {way}: {reason}; fetch again to go on where it stopped. Offline? Bring the "
        "files from another machine and use `bench data add`"
    )


def _without_password(proxy: str) -> str:
    head, _, host = proxy.rpartition("@")
    return f"{head.split('://')[0]}://...@{host}" if head else proxy


def check(file: Download, path: Path) -> None:
    """Compare size and checksum with what the provider publishes. Raises UserError when they differ."""
    size = path.stat().st_size
    if file.size and size != file.size:
        raise UserError(f"{file.address} gave {size} bytes where {file.size} were expected; fetch it again")
    if not file.checksum:
        return
    algorithm, _, wanted = file.checksum.partition(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != wanted:
        raise UserError(
            f"{file.address} gave a file with {algorithm} {found} where {wanted} was expected; fetch it again"
        )
