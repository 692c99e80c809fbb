"""What a stranger may leave in a file so that opening it does something: each leaves a mark if it is executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECRET = "a line that only the owner of this machine may read"


@dataclass(frozen=True)
class Outside:
    """What lies outside of the folder that a stranger made.

    Attributes:
        mark: is there once something was executed.
        secret: a file whose text must not come out, and that must stay as it is.
    """

    mark: Path
    secret: Path

    @classmethod
    def at(cls, folder: Path) -> Outside:
        """An untouched one."""
        folder.mkdir(exist_ok=True)
        (folder / "secret.txt").write_text(SECRET)
        return cls(folder / "mark", folder / "secret.txt")

    def refuse_traces(self) -> None:
        """Fail when something was executed, or written through a link."""
        assert not self.mark.exists(), "something of the folder was executed"
        assert self.secret.read_text() == SECRET, "something was written outside of the folder"


class Reduced:
    """Makes the mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def code(mark: Path) -> str:
    """Words that make the mark in Python, and in a shell."""
    return f"__import__('os').mkdir({str(mark)!r}) #; mkdir {mark} $(mkdir {mark}) `mkdir {mark}`"


def pickled(path: Path, outside: Outside) -> None:
    """A pickle."""
    path.write_bytes(pickle.dumps(Reduced(outside.mark)))


def checkpoint(path: Path, outside: Outside) -> None:
    """A checkpoint of torch's, which is a pickle in an archive."""
    import torch

    state = {"state_dict": {}, "epoch": 1, "global_step": 1, "loops": Reduced(outside.mark), "callbacks": {}}
    torch.save(state, path)


def objects(path: Path, outside: Outside) -> None:
    """An NPZ whose array holds objects."""
    stream = io.BytesIO()
    np.savez(stream, about=np.array([Reduced(outside.mark)], dtype=object), weights=np.zeros(3))
    path.write_bytes(stream.getvalue())


def words(path: Path, outside: Outside) -> None:
    """The file's own JSON with code in place of every text; TOML and plain text of code elsewhere."""
    text = code(outside.mark)
    if path.suffix == ".json" and path.is_file():
        value = _with_texts(json.loads(path.read_bytes()), text)
        path.unlink()
        path.write_text(
            json.dumps({**value, "__reduce__": ["os.mkdir", [str(outside.mark)]]} if isinstance(value, dict) else value)
        )
    else:
        path.unlink(missing_ok=True)
        path.write_text(f"value = {json.dumps(text)}\n")


def addresses(path: Path, outside: Outside) -> None:
    """The file's own JSON with the path of a file outside in place of every text."""
    if path.suffix == ".json" and path.is_file():
        value = _with_texts(json.loads(path.read_bytes()), str(outside.secret))
        path.unlink()
        path.write_text(json.dumps(value))
    else:
        path.unlink(missing_ok=True)
        path.write_text(f"path = {json.dumps(str(outside.secret))}\n")


def _with_texts(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_texts(each, text) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_texts(each, text) for each in value]
    return text if isinstance(value, str) else value


def yaml(path: Path, outside: Outside) -> None:
    """YAML that calls a function."""
    path.write_text(f"!!python/object/apply:os.mkdir [{str(outside.mark)!r}]\n")


def module(path: Path, outside: Outside) -> None:
    """Python in the file, and modules under names that something may import beside it."""
    text = code(outside.mark)
    path.write_text(text)
    for name in ("sitecustomize", "conftest", "__init__", "torch", "bench_plugin", "plugin", "setup"):
        (path.parent / f"{name}.py").write_text(text)


def link(path: Path, outside: Outside) -> None:
    """A link to a file outside."""
    path.unlink(missing_ok=True)
    path.symlink_to(outside.secret)


def postscript(path: Path, outside: Outside) -> None:
    """A program in PostScript, for which a reader of pictures would start Ghostscript."""
    path.write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
        f"(%pipe%mkdir {outside.mark}) (w) file\nshowpage\n%%EOF\n"
    )


def table(path: Path, outside: Outside) -> None:
    """A Parquet file whose column has a type of Python's, pickled."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Reduced(outside.mark)),
    }
    columns = ["epoch", "image_id", "group", "site", "label", "path", "ids"]
    schema = pa.schema([pa.field(name, pa.int64(), metadata=about) for name in columns])
    pq.write_table(pa.table([pa.array([0])] * len(columns), schema=schema), path)


def database(path: Path, outside: Outside) -> None:
    """A database whose every value is a pickle."""
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as made:
        for name in ("studies", "trials", "version_info", "study_user_attributes", "alembic_version"):
            made.execute(f"CREATE TABLE {name} (study_id BLOB, study_name BLOB, value_json BLOB, version_num BLOB)")
            made.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", [pickle.dumps(Reduced(outside.mark))] * 4)
    made.close()


PAYLOADS = (
    pickled, checkpoint, objects, words, addresses, yaml, module, link, postscript, table, database,
)  # fmt: skip


def put(payload: Callable[[Path, Outside], None], path: Path, outside: Outside) -> None:
    """Put a payload at a path, whose file may be shared with other copies by a hard link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    payload(path, outside)
