"""Generators of nonsense: each takes a random stream and a folder, leaves files there and returns a command line."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Generator = Callable[[random.Random, Path, Path], list[str]]
WORDS = (
    "", " ", "all", "*", "deepmedix", "phantom-brain", "-1", "0", "1e26", "inf", "nan", "../..", "/dev/null",
    "/dev/full", "/proc/self/mem", "ünïcödé", "[", "{}", "'", "a" * 300, "x;}", "$(id)", "%s", "<b>", "\t", "true",
    "[]", "1,2,,", "centralized", "fedavg", "demo", "paper", "none", "off", "9" * 40,
)  # fmt: skip
VALUES = (
    None, True, 0, -1, 1e308, "", "a", "../../x", [], {}, [[]], {"a": {}}, "9" * 5000, 2**70, [None], ["a", 1],
)  # fmt: skip


def word(random: random.Random) -> str:
    """An argument."""
    return random.choice(WORDS)


def harmed(random: random.Random, data: bytes) -> bytes:
    """Bytes that were cut, flipped, emptied, replaced or grown."""
    kind = random.randrange(6)
    if kind == 0 or not data:
        return b""
    if kind == 1:
        return data[: random.randrange(len(data))]
    if kind == 2:
        changed = bytearray(data)
        for _ in range(random.randrange(1, 20)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    if kind == 3:
        return pickle.dumps({"a": [1] * 10})
    return data + random.randbytes(50) if kind == 4 else random.choice([b"[" * 20000, b'{"a":' * 20000, b"\0" * 1000])


def other_value(random: random.Random, value: Any) -> Any:
    """A JSON value with one place of it replaced, or taken away."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(sorted(value))
        if random.random() < 0.2:
            return {key: each for key, each in value.items() if key != name}
        return {**value, name: other_value(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = random.randrange(len(value))
        return [*value[:place], other_value(random, value[place]), *value[place + 1 :]]
    return random.choice(VALUES)


def harm_file(random: random.Random, path: Path) -> None:
    """Harm a file: its bytes, its JSON, or what it is."""
    if path.suffix == ".json" and random.random() < 0.7:
        path.write_text(json.dumps(other_value(random, json.loads(path.read_text()))))
    elif random.random() < 0.15:
        path.unlink()
        random.choice([path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/etc/hostname")])()
    else:
        path.write_bytes(harmed(random, path.read_bytes()))


def run_folder(random: random.Random, folder: Path, run: Path) -> list[str]:
    """A run of which one to three files were harmed, opened by a command."""
    copy = folder / "run"
    shutil.copytree(run, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and "report" not in path.parts)
    for path in random.sample(files, random.randrange(1, 4)):
        harm_file(random, path)
    models = ["deepmedix", "linear@mobilenet_v2"]
    return random.choice([
        ["report", str(copy)], ["compare", str(copy), *models], ["check", str(copy), "--baseline", str(run)],
        ["check", str(run), "--baseline", str(copy)], ["fed", "gaps", str(copy)],
        ["analyze", str(copy), "--with", "calibration"],
    ])  # fmt: skip


def baseline(random: random.Random, folder: Path, run: Path) -> list[str]:
    """A run against a harmed baseline, or under nonsensical margins."""
    path = folder / "baseline.json"
    from bench.gate.baseline import write_baseline

    write_baseline(run, path)
    if random.random() < 0.7:
        harm_file(random, path)
        return ["check", str(run), "--baseline", str(path)]
    margins = folder / "margins.toml"
    margins.write_text(random.choice(["[quality]\naccuracy = ", "quality = ", "[time]\nshare = "]) + word(random))
    return ["check", str(run), "--baseline", str(path), "--margins", str(margins)]


def protocol(random: random.Random, folder: Path, run: Path) -> list[str]:
    """A protocol's file or settings with nonsense in them, planned."""
    from bench.core.config import Federation, Protocol

    fields = [*Protocol.model_fields, *(f"federated.{name}" for name in Federation.model_fields)]
    settings = [part for _ in range(random.randrange(3))
                for part in ("--set", f"{random.choice(fields)}={word(random)}")]  # fmt: skip
    path = folder / "protocol.toml"
    lines = [f"{random.choice(fields)} = {random.choice([json.dumps(random.choice(VALUES)), word(random)])}"
             for _ in range(random.randrange(3))]  # fmt: skip
    path.write_bytes(harmed(random, "\n".join(lines).encode()) if random.random() < 0.2 else "\n".join(lines).encode())
    named = random.choice([str(path), "demo", word(random)])
    return ["run", "--dry-run", "--models", "deepmedix", "--datasets", "phantom-brain", "--seeds", "1",
            "--out", str(folder / "out"), "--protocol", named, *settings]  # fmt: skip


def command_line(random: random.Random, folder: Path, run: Path) -> list[str]:
    """Words where commands, names, numbers and files are expected."""
    return random.choice([
        ["run", "--dry-run", "--out", str(folder / word(random).strip("/")), random.choice(["--models", "--datasets",
         "--regimes", "--seeds", "--split", "--weights", "--device"]), word(random)],
        ["models", "show", word(random)], ["data", "show", word(random)], ["data", "fetch", word(random)],
        ["report", word(random)], ["compare", str(run), word(random), word(random)], ["fed", "gaps", word(random)],
        ["check", str(run), "--baseline", word(random)], ["data", "add", word(random), word(random)],
        ["analyze", str(run), "--with", word(random)], ["fed", "init", str(folder / "made"), "--host", word(random)],
        [word(random), word(random)],
    ])  # fmt: skip


def dataset(random: random.Random, folder: Path, run: Path) -> list[str]:
    """A folder or a CSV of pictures, some of which are none, added as a dataset."""
    root = folder / "set"
    for name in random.sample(["a", "b", "train", "ü", "c d"], random.randrange(1, 4)):
        (root / name).mkdir(parents=True)
        for number in range(random.randrange(5)):
            (root / name / f"{number}.png").write_bytes(_picture(random))
    if random.random() < 0.5:
        return ["data", "add", "fuzzed", str(root)]
    names = ["a/0.png", "b/0.png", "../x.png", "/etc/hostname", "", "\0", "a/0"]
    rows = [",".join([random.choice(names), random.choice(["a", "b", "", "1"])]) for _ in range(random.randrange(6))]
    text = "\n".join([random.choice(["image,label", "image", "image;label", "image,image", ""]), *rows])
    (folder / "set.csv").write_bytes(text.encode() if random.random() < 0.8 else harmed(random, text.encode()))
    return ["data", "add", "fuzzed", str(folder / "set.csv")]


def _picture(random: random.Random) -> bytes:
    stream = io.BytesIO()
    size = random.choice([(1, 1), (16, 16), (32, 20), (4000, 9)])
    mode = random.choice(["RGB", "L", "1", "P", "RGBA", "I", "F", "CMYK"])
    kind = "TIFF" if mode in ("I", "F", "CMYK") else random.choice(["PNG", "TIFF", "GIF"])
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue() if random.random() < 0.7 else harmed(random, stream.getvalue())


def weights(random: random.Random, folder: Path, run: Path) -> list[str]:
    """A file of weights that is none, planned."""
    path = folder / f"weights{random.choice(['.safetensors', '.pth', '.bin'])}"
    header = json.dumps(other_value(random, {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})).encode()
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    valid = len(header).to_bytes(8, "little") + header + b"\0" * 8
    path.write_bytes(random.choice([valid, harmed(random, valid), archive.getvalue(), pickle.dumps({"a": 1})]))
    return ["run", "--dry-run", "--models", "deepmedix", "--datasets", "phantom-brain", "--seeds", "1", "--protocol",
            "demo", "--weights", str(path), "--out", str(folder / "out")]  # fmt: skip


GENERATORS: tuple[Generator, ...] = (run_folder, baseline, protocol, command_line, dataset, weights)
