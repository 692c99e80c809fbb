"""Invocations that once went wrong, kept as files: what to make in a folder, what to run in it, and how it must end.

A case is JSON: `why` (what it once did), `files` (by path), `words` (after `bench`), `ends` (the status), and
`copies_run` where it harms the finished run. A file is text, or {"is": "pipe" | "folder"}, {"link": target},
{"repeated": [text, times]}, {"base64": bytes}, {"table": {column: values}}, {"torch": a tensor's kind},
{"entries": names in a zip}, or {"changed": [[place, value], ...]}: the finished run's JSON with other values.
In texts and words {folder} is the case's own folder, {run} the run, and {cell} the key of its first cell.
"""

from __future__ import annotations

import base64
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.generators.nonsense import Invocation, Small, linked_copy
from tests.fuzz.harness import invoke

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Kept:
    """A case."""

    name: str
    why: str
    words: list[str]
    ends: int
    files: dict[str, Any]
    copies_run: bool = False


def kept() -> Iterator[Kept]:
    """Every case, by name."""
    for path in sorted(CASES.glob("*.json")):
        for name, value in json.loads(path.read_text()).items():
            yield Kept(f"{path.stem}: {name}", **value)


def replay(case: Kept, folder: Path, small: Small) -> None:
    """Make a case's files, run its words, and hold its end against what it must be."""
    (cell, *_) = sorted(path.name for path in (small.run / "cells").iterdir())
    run = linked_copy(small.run, folder / "run") if case.copies_run else small.run

    def filled(text: str) -> str:
        return text.replace("{folder}", str(folder)).replace("{run}", str(run)).replace("{cell}", cell)

    for name, content in case.files.items():
        _make(folder / filled(name), content, filled)
    env = {"BENCH_HOME": str(folder / "home")}
    status, problem = invoke(Invocation([filled(word) for word in case.words], (case.ends,), env))
    assert (status, problem) == (case.ends, ""), f"{case.name} ({case.why})"


def _make(path: Path, content: Any, filled: Callable[[str], str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    if isinstance(content, str):
        path.write_bytes(filled(content).encode(errors="surrogateescape"))
        return
    ((kind, value),) = content.items()
    makers: dict[str, Callable[[], object]] = {
        "base64": lambda: path.write_bytes(base64.b64decode(value)),
        "repeated": lambda: path.write_text(value[0] * value[1]),
        "is": lambda: {"pipe": os.mkfifo, "folder": os.mkdir}[value](path),
        "link": lambda: path.symlink_to(filled(value)),
        "table": lambda: _table(path, value),
        "changed": lambda: path.write_text(json.dumps(_changed(json.loads(data), value))),
        "torch": lambda: _tensors(path, value),
        "entries": lambda: _archive(path, value),
    }
    makers[kind]()


def _changed(value: Any, changes: list[list[Any]]) -> Any:
    for place, other in changes:
        inner = value
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = other
    return value


def _table(path: Path, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)


def _tensors(path: Path, name: str) -> None:
    import torch

    makers: dict[str, Callable[[], Any]] = {
        "meta": lambda: torch.zeros(2, device="meta"), "sparse": lambda: torch.eye(3).to_sparse(),
        "expanded": lambda: torch.zeros(1).expand(10**12), "float8": lambda: torch.zeros(2).to(torch.float8_e4m3fn),
        "complex": lambda: torch.zeros(2, dtype=torch.complex64),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    }  # fmt: skip
    torch.save({"w": makers[name]()}, path)


def _archive(path: Path, entries: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for name in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            made.writestr(entry, b"")
