"""Run folders, and what a run is held against."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.fuzz.generators.nonsense import (
    MODELS,
    VALUES,
    Invocation,
    Small,
    harm_file,
    linked_copy,
    odd,
    other_value,
    some,
    word,
)

FITTED = [
    "--protocol", "demo",
    *(part for setting in ("image_size=32", "epochs=1", "synthetic_images=60", "timing_batch_size=2",
                           "bootstrap_resamples=100") for part in ("--set", setting)),
]  # fmt: skip
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
    form = "--md" if random.random() < 0.5 else random.choice(["--csv", "--latex", "--html", "--paper"])
    held = [["check", str(copy), "--baseline", str(small.run)], ["check", str(small.run), "--baseline", str(copy)]]
    if random.random() < 0.8:
        # What reads most of a run, and takes least.
        cheap = [["report", str(copy), form], ["fed", "gaps", str(copy)], ["runs", "show", str(copy)]]
        return Invocation(random.choice(cheap)) if random.random() < 0.6 else Invocation(random.choice(held), (0, 1, 2))
    again = ["run", "--dry-run", "--models", MODELS[0], "--datasets", "phantom-brain", "--seeds", "1"]
    picture, out = small.kept("picture.png", _picture), str(copy.parent / "out")
    plain = [
        ["report", str(copy), "--figures", "--md"], ["compare", str(copy), *MODELS],
        [*again, "--protocol", "demo", "--out", str(copy)], ["runs", "list", str(copy.parent)],
        ["check", str(copy), "--baseline", f"{out}.json", "--update"],
        # Packing weights takes a second: mostly an ending that is refused.
        ["runs", "archive", str(copy), "--out", f"{out}.{random.choice(['tar.gz', 'tar', 'zip', ''])}"],
        ["runs", "merge", str(copy), str(small.run), "--out", out],
        ["runs", "drop", str(copy), "--cells", "*", "--yes"],
    ]  # fmt: skip
    other = [
        ["analyze", str(copy), "--with", random.choice(ANALYSES)],
        ["predict", str(random.choice(cells)), str(picture)],
    ]
    chosen = random.choice([*plain, *other])
    return Invocation(chosen, (0, 1, 2) if chosen in other else (0, 2))


def _picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 16), (10, 20, 30)).save(path)


def predictions(random: random.Random, folder: Path, small: Small) -> Invocation:
    """Somebody else's predictions, harmed, given the metrics of a run's cells."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    (cell, *_) = sorted((small.run / "cells").iterdir())
    path = folder / f"theirs{random.choice(['.csv', '.parquet', '.txt'])}"
    table = pq.ParquetFile(cell / "predictions.parquet").read()
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table.drop_columns(["site"]), path)
    if random.random() < 0.8:
        harm_file(random, path)
    options = [*FITTED, "--name", random.choice(["theirs", word(random)]), "--out", str(folder / "out")]
    return Invocation(["score", str(path), "--dataset", "phantom-brain", *options])


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
