"""Nonsense to build invocations from: words, values, harmed bytes, tables and files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
# Of the finished run: small on the disk, since some commands copy or pack it.
MODELS = ("deepmedix@squeezenet1_1", "linear@squeezenet1_1")
WORDS = (
    "",
    " ",
    "all",
    "*",
    "deepmedix",
    "phantom-brain",
    "-1",
    "0",
    "1",
    "2",
    "1e26",
    "inf",
    "nan",
    "../..",
    "/dev/null",
    "/dev/full",
    "/proc/self/mem",
    "ünïcödé",
    "[",
    "{}",
    "'",
    "a" * 300,
    "x;}",
    "$(id)",
    "%s",
    "<b>",
    "\t",
    "true",
    "[]",
    "1,2,,",
    "centralized",
    "fedavg",
    "demo",
    "paper",
    "none",
    "off",
    "9" * 40,
    "9" * 5000,
    "\n",
    "[/red]",
    "[bold",
    "\x1b[31m",
    "{0}",
    "\u202e",
    "a/b",
    "--",
    "-x",
    "null",
    "1_000",
    "0x10",
    "+",
    "@",
    ":",
    "a@b+c:d",
    "*" * 50,
    "[[]]",
    "?",
    "local-only",
    "twin",
    "official:1",
    "head",
    "full",
    "\x7f",
    ".",
    "/",
    "con:fus:ing",
    "١٢",
    "1.5",
    "1-2",
)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    1e308,
    -1e308,
    "",
    "a",
    "../../x",
    [],
    {},
    [[]],
    {"a": {}},
    "9" * 5000,
    2**70,
    [None],
    ["a", 1],
    "\x00",
    "\u202e<b>",
    "nan",
    {"": None},
    [[[[]]]],
    "/etc/hostname",
)


@dataclass(frozen=True)
class Small:
    """What the generators harm copies of, made once.

    Attributes:
        run: a finished run: two models, centralized and fedavg.
        made: a folder with whatever else a generator keeps from one case to the next.
    """

    run: Path
    made: Path

    def kept(self, name: str, make: Callable[[Path], object]) -> Path:
        """A folder or file that is made when it is first asked for."""
        path = self.made / name
        if not path.exists():
            make(path)
        return path


@dataclass(frozen=True)
class Invocation:
    """What is to be run.

    Attributes:
        what: the words after `bench`, or a function where no command reaches the place alone.
        ends: the exit statuses that would be right.
        env: environment variables of this invocation.
    """

    what: Sequence[str] | Callable[[], object]
    ends: tuple[int, ...] = (0, 2)
    env: dict[str, str] = field(default_factory=dict)


Generator = Callable[[random.Random, Path, Small], Invocation]


def word(random: random.Random) -> str:
    """An argument: a known word, or several letters of any kind."""
    if random.random() < 0.85:
        return random.choice(WORDS)
    letters = [chr(random.choice([random.randrange(1, 128), random.randrange(1, 0xD800)])) for _ in range(8)]
    return "".join(letters[: random.randrange(1, 9)])


def harmed(random: random.Random, data: bytes) -> bytes:
    """Bytes that were cut, flipped, emptied, replaced, repeated or grown."""
    kind = random.randrange(8)
    if kind == 0 or not data:
        return b""
    if kind == 1:
        return data[: random.randrange(len(data))]
    if kind == 2:
        return flipped(random, data)
    if kind == 3:
        return pickle.dumps({"a": [1] * 10})
    if kind == 4:
        return data + random.randbytes(50)
    if kind == 5:
        start = random.randrange(len(data))
        return data[:start] + data[start : start + 40] * 3 + data[start + 40 :]
    if kind == 6:
        return random.randbytes(random.randrange(1, 400))
    return random.choice([b"[" * 20000, b'{"a":' * 20000, b"\0" * 1000, b"\xff\xfe", b"a = " + b"[" * 20000])


def flipped(random: random.Random, data: bytes) -> bytes:
    """Bytes of which some are others."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 20)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def other_value(random: random.Random, value: Any) -> Any:
    """A JSON value with one place of it replaced, taken away or repeated."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(sorted(value))
        if random.random() < 0.2:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: other_value(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = random.randrange(len(value))
        return [*value[:place], other_value(random, value[place]), *value[place + 1 :]]
    return random.choice(VALUES)


def harm_table(random: random.Random, path: Path) -> None:
    """Harm a Parquet file as a table: columns gone, renamed, of another type, with gaps; rows gone or repeated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    names = table.column_names
    name = random.choice(names)
    rows = table.column(name).to_pylist()
    kind = random.randrange(7)
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.rename_columns([random.choice(["", "label", "p_", each]) for each in names])
    elif kind == 2:
        values = [random.choice([None, each]) for each in rows]
        table = table.set_column(names.index(name), name, pa.array(values, table.column(name).type))
    elif kind == 3:
        odd: Any = random.choice([[str(each) for each in rows], [[each] for each in rows], [b"\xff" for _ in rows]])
        table = table.set_column(names.index(name), name, pa.array(odd))
    elif kind == 4:
        number = random.choice([float("nan"), float("inf"), -1.0, 1e300])
        table = table.set_column(names.index(name), name, pa.array([number] * len(rows)))
    elif kind == 5:
        table = table.slice(0, random.randrange(3))
    else:
        table = pa.concat_tables([table, table])
    with contextlib.suppress(pa.ArrowException):
        replaced(path, lambda: pq.write_table(table, path))


def replaced(path: Path, write: Callable[[], object]) -> None:
    """Write a file anew: the old one is shared with other copies by a hard link."""
    path.unlink()
    write()


def harm_file(random: random.Random, path: Path) -> None:
    """Harm a file: its bytes, its values, or what it is."""
    if random.random() < 0.1:
        path.unlink()
        odd(random, path)
    elif path.suffix == ".json" and random.random() < 0.8:
        text = json.dumps(other_value(random, json.loads(path.read_text())))
        replaced(path, lambda: path.write_text(text))
    elif path.suffix == ".parquet" and random.random() < 0.7:
        harm_table(random, path)
    else:
        data = harmed(random, path.read_bytes())
        replaced(path, lambda: path.write_bytes(data))


def odd(random: random.Random, path: Path) -> None:
    """Put something at a path that is no regular file, or cannot be read."""
    makers: list[Callable[[], object]] = [
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/etc/hostname"),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("nowhere"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: None,
    ]
    random.choice(makers)()


def linked_copy(source: Path, target: Path) -> Path:
    """A copy whose files are hard links, which cost nothing; locks are files of its own."""

    def link(one: str, other: str) -> None:
        if Path(one).name.endswith("lock"):
            Path(other).touch()
        else:
            os.link(one, other)

    shutil.copytree(source, target, copy_function=link)
    return target


def npy(array: Any) -> bytes:
    """The bytes of an NPY file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def some(random: random.Random, items: Sequence[T], most: int) -> list[T]:
    """Up to `most` of some items."""
    return random.sample(list(items), min(len(items), random.randrange(most + 1)))
