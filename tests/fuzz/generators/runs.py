"""Run folders, and what a run is held against."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.fuzz.generators.nonsense import (
    VALUES,
    Invocation,
    Small,
    harm_file,
    linked_copy,
    odd,
    other_value,
    replaced,
    some,
    word,
)

MODELS = ("deepmedix", "linear@mobilenet_v2")
ANALYSES = ("calibration", "selective", "decisions", "discrimination", "subgroups", "conformal")


def run_folder(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A run of which one to three files were harmed, or in which one was put, opened by a command."""
    copy = linked_copy(small.run, folder / "run")
    files = sorted(path for path in copy.rglob("*") if path.is_file() and "report" not in path.parts)
    for path in random.sample(files, random.randrange(1, 4)):
        if path.name.endswith("lock"):
            path.unlink()
            odd(random, path)
        else:
            harm_file(random, path)
    if random.random() < 0.3:
        _put(random, copy)
    return _opened(random, copy, small)


def _put(random: random.Random, run: Path) -> None:
    """A file that a run may have and this one has not."""
    cell = random.choice(sorted((run / "cells").iterdir()))
    path = run / random.choice([
        "sweeps/a.json", f"cells/{cell.name}/wandb.json", f"cells/{cell.name}/failure.json",
        f"cells/{cell.name}/trial.json", f"cells/{cell.name}/analyses/calibration.failure.json",
        f"cells/{cell.name}/analyses/explanations.json", f"cells/{cell.name}/alone.json", "sweeps/study.db",
    ])  # fmt: skip
    if path.exists() or not path.parent.parent.is_dir():
        return
    path.parent.mkdir(exist_ok=True)
    shapes = [
        {"study": "a", "objectives": [], "trials": [], "space": {}, "best": None},
        {"error": "a", "traceback": "b"}, {"key": cell.name, "columns": {}, "notes": []}, {"sent": 3, "result": "x"},
    ]  # fmt: skip
    value = other_value(random, random.choice(shapes)) if random.random() < 0.8 else random.choice(VALUES)
    path.write_text(json.dumps(value))


def _opened(random: random.Random, copy: Path, small: Small) -> Invocation:
    cells = sorted((copy / "cells").iterdir())
    form = random.choice(["--md", "--csv", "--latex", "--html", "--paper"])
    again = ["run", "--dry-run", "--models", MODELS[0], "--datasets", "phantom-brain", "--seeds", "1", "--protocol",
             "demo", "--out", str(copy)]  # fmt: skip
    picture = small.kept("picture.png", _picture)
    held = [["check", str(copy), "--baseline", str(small.run)], ["check", str(small.run), "--baseline", str(copy)]]
    asked = ["analyze", str(copy), "--with", random.choice(ANALYSES)]
    form = "--md" if random.random() < 0.5 else form
    if random.random() < 0.8:
        return (
            Invocation(["report", str(copy), form])
            if random.random() < 0.5
            else Invocation(random.choice(held), (0, 1, 2))
        )
    return random.choice([
        Invocation(["report", str(copy), form]), Invocation(["report", str(copy), form]),
        Invocation(["compare", str(copy), *MODELS]), Invocation(random.choice(held), (0, 1, 2)),
        Invocation(["fed", "gaps", str(copy)]), Invocation(asked, (0, 1, 2)), Invocation(again),
        Invocation(["predict", str(random.choice(cells)), str(picture)], (0, 1, 2)),
        Invocation(["check", str(copy), "--baseline", str(copy.parent / "b.json"), "--update"]),
    ])  # fmt: skip


def _picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16), (10, 20, 30)).save(path)


def baseline(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A run against a harmed baseline, or under nonsensical margins."""
    from bench.gate.baseline import write_baseline

    whole = small.kept("baseline.json", lambda path: write_baseline(small.run, path))
    path = folder / "baseline.json"
    path.write_bytes(whole.read_bytes())
    options = [part for name in some(random, ["--junit", "--markdown"], 1) for part in (name, word(random) or ".")]
    if random.random() < 0.7:
        harm_file(random, path)
        return Invocation(["check", str(small.run), "--baseline", str(path), *options], (0, 1, 2))
    margins = folder / "margins.toml"
    names = ["accuracy", "time", "quality", "roc_auc", "cost", "share", "params_m"]
    lines = [
        random.choice(["", f"[{random.choice(names)}]", f"{random.choice(names)} = {_toml(random)}"])
        for _ in range(random.randrange(4))
    ]
    margins.write_text("\n".join(lines), errors="replace")
    return Invocation(
        ["check", str(small.run), "--baseline", str(path), "--margins", str(margins), *options], (0, 1, 2)
    )


def _toml(random: random.Random) -> str:
    return random.choice([json.dumps(random.choice(VALUES)), word(random), "0.1", "{ absolute = 0.1 }"])


def state(random: random.Random, folder: Path, small: Small) -> Invocation:
    """What a killed fit left, harmed, and loaded as the fit loads it."""
    import numpy as np

    from bench.core.errors import DamagedState, UserError
    from federated.client.client import FolderStore
    from federated.server import checkpoint
    from federated.server.vectors import Model

    start = checkpoint.Progress.start(Model(np.zeros(3, np.float32), np.zeros(1, np.float32), np.zeros(0, np.float32)))
    path = folder / "round-1.npz"
    checkpoint.save(path, start)
    harm_file(random, path) if path.exists() else None

    def load() -> None:
        try:
            random.choice([lambda: checkpoint.load(path, start), lambda: FolderStore(folder).load(2)])()
        except DamagedState as error:
            raise UserError(str(error)) from error

    return Invocation(load)


__all__ = ["baseline", "replaced", "run_folder", "state"]
