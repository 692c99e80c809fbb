"""Unpacking zip archives that nobody vouches for."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from bench.core.errors import UserError

MAX_FILES = 200_000
MAX_BYTES = 64 * 2**30
MAX_RATIO = 200
_CHUNK = 2**20


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a new folder, whole or not at all.

    Refused: names that lead out of the folder, links and devices, more than `MAX_FILES` files or `MAX_BYTES` bytes,
    an entry that grows more than `MAX_RATIO` times, and entries larger than they claim.

    Raises:
        UserError: for any of these, a damaged archive, or a full disk.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(archive, entries)
            for entry in entries:
                _extract(archive, opened, entry, temporary)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive.name} is no whole zip archive ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive.name} to {folder}: {error.strerror or error}") from error
    else:
        temporary.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_FILES:
        raise UserError(f"{archive.name} holds {len(entries)} files, more than {MAX_FILES}")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise UserError(f"{archive.name} would unpack to more than {MAX_BYTES} bytes")
    for entry in entries:
        _check_entry(archive, entry)


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = PurePosixPath(entry.filename.replace("\\", "/"))
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise UserError(f"{archive.name} wants to write outside its folder: {entry.filename!r}; it is not unpacked")
    mode = entry.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{archive.name} holds a link or device: {entry.filename!r}; it is not unpacked")
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1024):
        raise UserError(f"{archive.name}: {entry.filename!r} grows more than {MAX_RATIO} times; it is not unpacked")


def _extract(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / PurePosixPath(entry.filename.replace("\\", "/"))
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with opened.open(entry) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            done += len(chunk)
            if done > entry.file_size:
                raise UserError(f"{archive.name}: {entry.filename!r} is larger than it claims; it is not unpacked")
            file.write(chunk)
