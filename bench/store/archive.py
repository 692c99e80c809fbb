"""A run packed for a colleague: what its report and predictors need, no state to resume from and no private path."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.core.atomic import replacing
from bench.core.errors import UserError
from bench.core.schema import read_bytes, read_json
from bench.store.layout import ALONE, BEST, CLIENTS, LAST, RUN_FILE, TRACKING, TRIAL, WANDB_FOLDER, study_storage
from bench.store.run import Run

_STATE = {LAST, BEST, ALONE, TRACKING, TRIAL, CLIENTS, WANDB_FOLDER, RUN_FILE, "report", "locks"}
_CLIENTS_WEIGHTS = re.compile(r"alone-.*\.safetensors")
# A path that begins at the root, or in a user's home: what stands before its last part is nobody else's business.
_PATH = re.compile(r"""(?<![\w.:/])(?:~|[A-Za-z]:)?/(?:[^\s'"/:,]+/)+(?=[^\s'"/:,]*)""")
_MEND = "remove it or run its cell again"


def archive(run: Path, out: Path) -> list[str]:
    """Write a run as a .tar.gz; the names of the files in it.

    Left out: checkpoints, clients' own weights, W&B's and Optuna's folders, the report (`bench report` draws it anew).
    Paths inside its JSON files are cut down to their last part.

    Args:
        run: the run's folder.
        out: the file to write, .tar.gz or .tgz.

    Raises:
        UserError: no run, another ending, the file lies in the run itself, or a JSON file is damaged.
    """
    if out.suffixes[-2:] != [".tar", ".gz"] and out.suffix != ".tgz":
        raise UserError(f"{out} is written as a .tar.gz; give it that ending")
    stored = Run.open(run)
    if out.resolve().is_relative_to(run.resolve()):
        raise UserError(f"{out} lies in the run that it would hold; name a place outside {run}")
    names = []
    with replacing(out) as temporary, tarfile.open(temporary, "w:gz") as packed:
        for path in _kept(stored.path):
            name = f"{stored.name}/{path.relative_to(stored.path).as_posix()}"
            _add(packed, name, _content(path))
            names.append(name)
    return names


def _kept(run: Path) -> Iterator[Path]:
    for path in sorted(run.rglob("*")):
        parts = path.relative_to(run).parts
        private = any(part in _STATE or part.startswith(".") or _CLIENTS_WEIGHTS.fullmatch(part) for part in parts)
        if path.is_file() and not private and path != study_storage(run):
            yield path


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return read_bytes(path, _MEND, most=2**36)
    return json.dumps(without_paths(read_json(path, object, _MEND)), indent=1, ensure_ascii=False).encode()


def without_paths(value: Any) -> Any:
    """A JSON value whose texts keep only the last part of every absolute path."""
    if isinstance(value, dict):
        return {without_paths(name): without_paths(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    return _PATH.sub("", value) if isinstance(value, str) else value


def _add(packed: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    # Neither the owner's name nor the time: the same run packs to the same bytes inside.
    about.size, about.mode = len(content), 0o644
    packed.addfile(about, io.BytesIO(content))
