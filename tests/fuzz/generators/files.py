"""Archives and files of weights."""

from __future__ import annotations

import functools
import io
import json
import pickle
import random
import stat
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.generators.nonsense import Invocation, Small, harmed, odd, other_value

ENTRIES = (
    "a/0.png",
    "../out",
    "/etc/x",
    "a/../../b",
    "C:/x",
    "c:\\x",
    "..\\x",
    "a",
    "a/",
    "",
    ".",
    "/",
    "\0",
    "x" * 300,
    "a/a/" * 60,
    "ü",
    "con",
    "a\nb",
    "//x",
    "a//b",
    ":",
    "a:b",
)


def archive(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A zip that nobody vouches for, unpacked as a fetched one is."""
    from bench.data.download.unpack import unpack

    path = folder / "set.zip"
    path.write_bytes(_archive(random))

    def unpacked() -> None:
        unpack(path, folder / "unpacked")
        outside = [each for each in folder.rglob("*") if "unpacked" not in each.parts and each != path]
        assert not outside, outside
        assert not any(each.is_symlink() for each in (folder / "unpacked").rglob("*"))

    return Invocation(unpacked)


def _archive(random: random.Random) -> bytes:
    stream = io.BytesIO()
    if random.random() < 0.1:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
        return stream.getvalue()
    with zipfile.ZipFile(stream, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as made:
        for _ in range(random.randrange(5)):
            entry = zipfile.ZipInfo("x")
            entry.filename = random.choice(ENTRIES)
            mode = random.choice([0, 0, 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
            entry.external_attr = mode << 16
            made.writestr(entry, random.choice([b"", b"text", b"\0" * 400_000, b"/etc/hostname"]), made.compression)
    data = bytearray(stream.getvalue())
    if random.random() < 0.2:
        # The flag of an encrypted entry, or a size that is another one, in the central directory.
        place = data.rfind(b"PK\1\2")
        if place >= 0:
            data[place + random.choice([8, 10, 20, 24, 42])] ^= random.choice([1, 8, 0xFF])
    return harmed(random, bytes(data)) if random.random() < 0.2 else bytes(data)


def weights(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A file of weights, mostly none, planned."""
    path = folder / f"weights{random.choice(['.safetensors', '.pth', '.bin', '.pt'])}"
    if random.random() < 0.05:
        odd(random, path)
    else:
        data = _weights(random)
        path.write_bytes(harmed(random, data) if random.random() < 0.3 else data)
    if random.random() < 0.5:
        from models.weights.files import describe

        return Invocation(lambda: describe(path))
    return Invocation(
        [
            "run",
            "--dry-run",
            "--models",
            "linear@mobilenet_v2",
            "--datasets",
            "phantom-brain",
            "--seeds",
            "1",
            "--protocol",
            "demo",
            "--weights",
            str(path),
            "--out",
            str(folder / "out"),
        ]
    )


def _weights(random: random.Random) -> bytes:
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"mean": "[1,2]"}}
    text = json.dumps(other_value(random, header)).encode()
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    kinds = [
        len(text).to_bytes(8, "little") + text + b"\0" * 8,
        archive.getvalue(),
        pickle.dumps({"a": 1}),
        (2**63).to_bytes(8, "little") + text,
        *_saved(),
    ]
    return random.choice(kinds)


@functools.cache
def _saved() -> tuple[bytes, ...]:
    """What torch saves that is no plain state, and what it saves of one."""
    import torch
    from safetensors.torch import save

    one = torch.zeros(2, 3)
    sparse, meta = torch.eye(3).to_sparse(), torch.zeros(2, device="meta")
    values: list[Any] = [
        {"w": one},
        {"state_dict": {"w": one}},
        {"w": sparse},
        {"w": sparse.to_sparse_csr()},
        {"w": meta},
        [one],
        one,
        {1: one},
        {"w": torch.zeros(1).expand(10**12)},
        {"w": one.to(torch.complex64)},
        {"w": float("nan") * one},
        {},
        {"w": torch.quantize_per_tensor(one, 0.1, 0, torch.qint8)},
        OrderedDict(w=one),
        {"w": torch.nn.Parameter(one)},
        {"w": torch.zeros(0)},
        {"model": 3, "w": one},
        {"state_dict": {}},
        {"w": {"w": one}},
        {"w": one.to(torch.float8_e4m3fn)},
    ]
    found = []
    for value in values:
        for legacy in (False, True):
            stream = io.BytesIO()
            torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
            found.append(stream.getvalue())
    metadata = [{"mean": "a"}, {"mean": "[1,1,1]", "std": "[0,1,1]"}, {"mean": "[nan,1,1]", "std": "1,1,1"}]
    return (*found, *(save({"w": one}, each) for each in metadata), save({"w": one.to(torch.bfloat16)}))
