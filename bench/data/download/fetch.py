"""Fetching a dataset from its provider: resumable, checked, unpacked safely, complete or not there at all.

Files gather in `fetched/.NAME.part` and the folder is renamed to `fetched/NAME` when the last one is checked and
unpacked, so that an interrupted fetch leaves nothing that looks complete and goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from filelock import FileLock

from bench.core.atomic import write_json
from bench.core.download import Progress, RemoteFile, consent, download
from bench.core.errors import UserError
from bench.core.schema import read_json
from bench.data.download.folders import MARKER, fetched_folder, target_folder
from bench.data.download.unpack import unpack
from bench.data.registry import DATASETS
from bench.data.spec import DatasetSpec, Download

_OTHERWISE = "bring the files from another machine and use `bench data add`"


def fetch_dataset(
    name: str,
    accept_licence: bool,
    progress: Progress | None = None,
    yes: bool = False,
) -> Path:
    """Bring a dataset and return its folder; one that was brought already is left as it is.

    Args:
        name: of a registered dataset.
        accept_licence: whether the user has agreed to the terms that some providers state.
        progress: called with (bytes done, bytes in all or 0) of the current file.
        yes: files may come whose provider publishes no checksum, unasked.

    Raises:
        UnknownName: no such dataset.
        UserError: it cannot be fetched (with the steps that bring it), the licence is not accepted, the machine is
            offline, what came is not what the provider publishes, or nobody says yes to what cannot be checked.
    """
    spec = DATASETS.get(name)
    if spec.same_files_as:
        return fetch_dataset(spec.same_files_as, accept_licence, progress, yes)
    if not spec.downloads:
        raise UserError(f"{spec.name} cannot be fetched by a program: {spec.hint}")
    target = target_folder(spec.name)
    if fetched_folder(spec.name):
        return target
    if not accept_licence:
        raise UserError(
            f"{spec.name} is under the licence {spec.licence!r} (see {spec.address}); "
            f"if you keep to it: bench data fetch {spec.name} --accept-licence"
        )
    unverified = [file.filename for file in spec.downloads if not file.verified]
    if unverified:
        consent(f"unverified: the provider publishes no checksum of {', '.join(unverified)}", yes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock"):
        return _fetch(spec, target, progress)


def _fetch(spec: DatasetSpec, target: Path, progress: Progress | None) -> Path:
    if (target / MARKER).is_file():
        return target
    if target.exists():
        raise UserError(f"{target} is in the way of the fetched {spec.name}; move it aside")
    part = target.with_name(f".{target.name}.part")
    part.mkdir(exist_ok=True)
    files = [
        {"address": file.address, "name": file.filename, "verified": file.verified, **bring(file, part, progress)}
        for file in spec.downloads
    ]
    write_json(part / MARKER, {"name": spec.name, "licence": spec.licence, "files": files})
    os.replace(part, target)
    return target


def bring(file: Download, folder: Path, progress: Progress | None = None) -> dict[str, str | int]:
    """Download one file into a folder, check it, unpack it. What was brought by an earlier attempt is not repeated.

    Returns:
        checksum and size of what came, by which two downloads of an unverified file can be compared.

    Raises:
        UserError: no connection, a wrong size or checksum, or an archive that will not do.
    """
    done = folder / f".{file.filename}.done"
    if done.is_file():
        return dict(read_json(done, dict[str, str | int], f"delete {folder} and fetch again"))
    path = folder / file.filename
    download(RemoteFile(file.address, _OTHERWISE, file.checksum, file.size), path, progress)
    with path.open("rb") as stream:
        came: dict[str, str | int] = {"checksum": f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"}
    came["size"] = path.stat().st_size
    if file.unpack:
        unpack(path, folder / path.stem)
        path.unlink()
    write_json(done, came)
    return came
