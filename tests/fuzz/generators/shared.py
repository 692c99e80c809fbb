"""What processes share: studies, consortiums and their messages, the user's caches and records."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np

from tests.fuzz.generators.nonsense import (
    VALUES,
    Invocation,
    Small,
    flipped,
    harm_file,
    harmed,
    npy,
    odd,
    other_value,
    word,
)

SWEEP = [
    "sweep",
    "linear@mobilenet_v2",
    "--dataset",
    "phantom-brain",
    "--protocol",
    "demo",
    "--trials",
    "1",
    "--no-test",
    "--progress",
    "none",
    *(
        part
        for setting in ("image_size=32", "epochs=1", "synthetic_images=60", "bootstrap_resamples=100")
        for part in ("--set", setting)
    ),
]


def study(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A finished study, harmed, on which a sweep goes on; or a place that is none."""
    if random.random() < 0.4:
        places = [
            "sqlite://",
            "sqlite:////",
            "sqlite:///",
            "mysql://",
            "a://b",
            "://",
            "sqlite:///\0",
            "redis://a",
            "mysql+pymysql://u:p@127.0.0.1:1/x",
            f"sqlite:///{folder}",
            str(folder),
            "journal.txt",
            "oracle://a",
        ]
        return Invocation(
            [*SWEEP, "--out", str(folder / "out"), "--storage", random.choice([*places, word(random)])], (2,)
        )
    kind = random.choice(["study.db", "study.log"])
    whole = small.kept(f"sweep-{kind}", lambda path: _swept(path, kind))
    copy = folder / "out"
    shutil.copytree(whole, copy)
    path = copy / "sweeps" / kind
    if random.random() < 0.1:
        path.unlink()
        odd(random, path)
    elif kind == "study.db":
        _harm_database(random, path)
    else:
        _harm_journal(random, path)
    storage = f"sqlite:///{path}" if kind == "study.db" else str(path)
    return Invocation([*SWEEP, "--out", str(copy), "--storage", storage], (0, 1, 2))


def _swept(path: Path, kind: str) -> None:
    from tests.fuzz.harness import invoke

    stored = path / "sweeps" / kind
    storage = f"sqlite:///{stored}" if kind == "study.db" else str(stored)
    status, problem = invoke(Invocation([*SWEEP, "--out", str(path), "--storage", storage]), limit=300)
    assert status == 0, problem


def _harm_database(random: random.Random, path: Path) -> None:
    if random.random() < 0.3:
        path.write_bytes(random.choice([flipped, harmed])(random, path.read_bytes()))
        return
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = random.choice(tables)
        if random.random() < 0.3:
            database.execute(random.choice([f"DROP TABLE {table}", f"DELETE FROM {table}"]))
            return
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        value = random.choice(
            [None, "a", "", -1, 2**60, "[]", "{", "RUNNING", "FAIL", b"\xff", 1e308, json.dumps({"a": 1})]
        )
        try:
            database.execute(f"UPDATE {table} SET {random.choice(columns)} = ?", (value,))
        except sqlite3.Error:
            database.execute(f"DELETE FROM {table}")
    database.close()


def _harm_journal(random: random.Random, path: Path) -> None:
    lines = path.read_text().splitlines()
    place = random.randrange(len(lines))
    kind = random.randrange(5)
    if kind == 0:
        lines[place] = json.dumps(other_value(random, json.loads(lines[place])))
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines[place] = lines[place][: random.randrange(len(lines[place]))]
    elif kind == 3:
        lines.insert(place, random.choice(["", "garbage", "[]", "7", "null", '{"op_code": 99}', '{"op_code": "a"}']))
    else:
        path.write_bytes(harmed(random, path.read_bytes()))
        return
    path.write_text("\n".join(lines) + "\n")


def consortium(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A consortium's or a site's folder, harmed, looked at; or made with words for names."""
    if random.random() < 0.4:
        hosts = [
            "x;}",
            "a b",
            "-a",
            "a..b",
            "127.0.0.1",
            "fed.example.org",
            "a" * 300,
            "[::1]",
            "a/b",
            "a\nb",
            word(random),
        ]
        sites = ["a,b", "a", "a,a", "A,b", "", ",", "a,b\n", "../a,b", word(random)]
        return Invocation(
            [
                "fed",
                "init",
                str(folder / random.choice(["made", "a/b"])),
                "--host",
                random.choice(hosts),
                "--sites",
                random.choice(sites),
                "--name",
                random.choice(["trial", word(random)]),
            ]
        )
    whole = small.kept("consortium", _consortium)
    copy = folder / "trial"
    shutil.copytree(whole, copy)
    site = random.random() < 0.5
    root = copy / "sites" / "a" if site else copy
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and path.suffix in (".toml", ".crt", ".key", ".pub")
    )
    harm_file(random, random.choice(files))
    return Invocation(["fed", "check", str(root), *(["--data", "phantom-brain"] if site else [])], (0, 1, 2))


def _consortium(path: Path) -> None:
    from federated.deployment.consortium import create

    create(path, "trial", "127.0.0.1", 1, ["a", "b"], 18443)


def message(random: random.Random, folder: Path, small: Small) -> Invocation:
    """What travels between a server and its sites, harmed: tasks, work, arrays."""
    from bench.core.errors import UserError
    from federated.deployment.task import Task
    from federated.transport.wire import from_array

    text = small.kept("task.json", _task).read_text()
    task = (
        harmed(random, text.encode()).decode(errors="replace")
        if random.random() < 0.3
        else json.dumps(other_value(random, json.loads(text)))
    )
    if random.random() < 0.6:
        return Invocation(lambda: Task.from_json(task).checked())
    from flwr.app import Array

    arrays = [
        np.zeros(3, np.float32),
        np.array([{}], object),
        np.array(["a"]),
        np.zeros((2, 2), order="F"),
        np.zeros(0),
    ]
    data = npy(random.choice(arrays))
    data = harmed(random, data) if random.random() < 0.8 else data

    def read() -> None:
        try:
            from_array(Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data))
        except ValueError as error:
            # Its contract: the caller makes a lost reply of it.
            raise UserError(" ".join(str(error).split()) or "damaged") from error

    return Invocation(read)


def _task(path: Path) -> None:
    from bench.core.config import load_protocol
    from federated.deployment.task import Task

    path.write_text(
        Task("trial", "deepmedix", "fedavg", load_protocol("demo"), ("a", "b"), 2, statistics="AAAA").to_json()
    )


def cache(random: random.Random, folder: Path, small: Small) -> Invocation:
    """The user's own caches and records, harmed by a crash or another program."""
    from tests.fuzz.harness import invoke

    def fill(path: Path) -> None:
        env = {"BENCH_HOME": str(path / "home"), "BENCH_CACHE": str(path / "cache")}
        pictures = path / "set"
        for number in range(8):
            place = pictures / "ab"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            _picture(number, place)
        for line in (["add", "fuzzed", str(pictures)], ["prepare", "fuzzed", "--size", "16"], ["audit", "fuzzed"]):
            status, problem = invoke(Invocation(["data", *line], env=env))
            assert status == 0, problem

    whole = small.kept("user", fill)
    copy = folder / "user"
    shutil.copytree(whole, copy)
    files = sorted(path for part in ("home", "cache") for path in (copy / part).rglob("*") if path.is_file())
    for path in random.sample(files, random.randrange(1, 3)):
        if path.suffix == ".toml" and random.random() < 0.6:
            lines = path.read_text().splitlines()
            lines[random.randrange(len(lines))] = (
                f"{random.choice(['name', 'path', 'columns', 'kind'])} = {json.dumps(random.choice(VALUES))}"
            )
            path.write_text("\n".join(lines))
        else:
            harm_file(random, path)
    line = random.choice(
        [["show", "fuzzed"], ["list"], ["prepare", "fuzzed", "--size", "16"], ["audit", "fuzzed"], ["remove", "fuzzed"]]
    )
    env = {"BENCH_HOME": str(copy / "home"), "BENCH_CACHE": str(copy / "cache")}
    return Invocation(["data", *line], env=env)


def _picture(seed: int, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
