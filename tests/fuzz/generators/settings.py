"""Protocols, search spaces and analyses' settings, and settings of a federation."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.fuzz.generators.nonsense import VALUES, WORDS, Invocation, Small, harmed, some, word

GRID = ["--models", "deepmedix", "--datasets", "phantom-brain", "--seeds", "1"]


def _fields() -> list[str]:
    from bench.core.config import Federation, Protocol

    return [*Protocol.model_fields, *(f"federated.{name}" for name in Federation.model_fields)]


def _value(random: random.Random) -> str:
    return random.choice([json.dumps(random.choice(VALUES)), word(random), str(random.choice([1, 2, 5, 0.5, 1e-3]))])


def _settings(random: random.Random, fields: list[str], most: int) -> list[str]:
    return [
        part for _ in range(random.randrange(most)) for part in ("--set", f"{random.choice(fields)}={_value(random)}")
    ]


def protocol(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A protocol's file or settings with nonsense in them, planned."""
    fields = _fields()
    path = folder / "protocol.toml"
    lines = [f"{random.choice(fields)} = {_value(random)}" for _ in range(random.randrange(3))]
    data = "\n".join(lines).encode(errors="replace")
    path.write_bytes(harmed(random, data) if random.random() < 0.2 else data)
    named = random.choice([str(path), "demo", word(random)])
    regimes = random.choice(["centralized", "fedavg", "centralized,fedavg", "local-only", "twin"])
    return Invocation(
        [
            "run",
            "--dry-run",
            *GRID,
            "--regimes",
            regimes,
            "--out",
            str(folder / "out"),
            "--protocol",
            named,
            *_settings(random, fields, 3),
        ]
    )


def federation(random: random.Random, folder: Path, small: Small) -> Invocation:
    """Settings of a federation, sensible and not, planned or divided."""
    from bench.core.config import Federation
    from federated.algorithms.registry import ALGORITHMS

    fields = [f"federated.{name}" for name in Federation.model_fields]
    known = {
        "partition": ["iid", "dirichlet", "shards", "quantity", "site"],
        "privacy": ["central", "local"],
        "compression": ["float16", "int8", "topk"],
        "batch_norm": ["average", "personal", "frozen", "group"],
        "secure_aggregation": ["true"],
        "clients": ["1", "2", "5", "300", "1000000"],
        "participation": ["0.1", "1e-9"],
        "local_steps": ["1", "9"],
        "rounds": ["1", "1000000"],
        "noise_multiplier": ["0", "1"],
        "clip_norm": ["0.1"],
        "malicious": ["0", "3", "50"],
        "trimmed": ["0.49"],
        "alpha": ["1e-6"],
        "shards": ["1", "999999"],
    }
    chosen = some(random, sorted(known), 4)
    settings = [part for name in chosen for part in ("--set", f"federated.{name}={random.choice(known[name])}")]
    settings += _settings(random, fields, 2)
    if random.random() < 0.3:
        return Invocation(["fed", "partition", "phantom-brain", *settings])
    regime = random.choice([*ALGORITHMS.names(), "local-only", "twin", "*"])
    demo = [*GRID, "--protocol", "demo", "--regimes", regime, "--out", str(folder / "out")]
    return Invocation(["run", "--dry-run", *demo, *settings])


def space(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A search space with nonsense in it."""
    from sweeps.space import load_space

    tables = ["protocol", "federated", "model", "regime", random.choice(WORDS)]
    fields = [*_fields(), "name", "head", "backbone"]
    lines = []
    for _ in range(random.randrange(1, 4)):
        table, name = random.choice(tables), random.choice(fields).rpartition(".")[2]
        low, high = (random.choice(["0", "1", "-1", "1e308", "inf", "nan", '"a"', "[]"]) for _ in range(2))
        domain = random.choice(
            [
                f"{{ low = {low}, high = {high} }}",
                f"{{ low = {low}, high = {high}, log = true }}",
                f"[{low}, {high}]",
                json.dumps(random.choice(VALUES)),
                f"{{ low = 1, high = 5, step = {low} }}",
                '["a", "a"]',
                "[]",
                "{}",
            ]
        )
        lines += [f"[{table}]", f"{name} = {domain}"]
    path = folder / "space.toml"
    data = "\n".join(lines).encode(errors="replace")
    path.write_bytes(harmed(random, data) if random.random() < 0.2 else data)
    regime = random.choice(["centralized", "fedavg"])
    if random.random() < 0.9:
        return Invocation(lambda: load_space(path, regime))
    return Invocation(
        ["sweep", "deepmedix", "--dataset", "nowhere", "--space", str(path), "--out", str(folder / "out")], (2,)
    )


def question(random: random.Random, folder: Path, small: Small) -> Invocation:
    """Analyses under nonsensical settings, questions to a cell's predictions alone."""
    from bench.analyses.registry import ANALYSES
    from bench.analyses.run import questions

    name = random.choice(ANALYSES.names())
    fields = list(ANALYSES.get(name).settings.model_fields) if ANALYSES.get(name).settings else ["a"]
    chosen = [
        f"{random.choice([name, word(random)])}.{random.choice([*fields, word(random)])}={_value(random)}"
        for _ in range(random.randrange(3))
    ]
    return Invocation(lambda: questions(random.choice([name, name, word(random)]), chosen))
