"""The kinds of work that `kill_resume.py` kills: each one's command, and all of its end but clocks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from bench.store.run import Run

ROOT = Path(__file__).parents[1]
ALGORITHMS = (
    *("fedavg", "fedprox", "fedavg-svrg", "fednova", "scaffold", "feddyn", "moon", "fedlc", "fedavg-cosine", "fedexp"),
    *("fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedmedian", "fedtrimmedavg", "krum", "fedbn", "fedper"),
    *("fedrep", "ditto"),
)
SMALL = ["image_size=32", "synthetic_images=60", "batch_size=8", "timing_batch_size=2", "bootstrap_resamples=100"]
FEDERATED = ["tuning=full", "federated.clients=3", "federated.rounds=12", "federated.batch_norm=average"]
PLUGIN = """
from torch import nn
from models.backbones.registry import BACKBONES, Backbone
def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.ReLU())
BACKBONES.register("tiny", Backbone("tiny", 8, tiny))
"""
SPACE = "[protocol]\nlearning_rate = { low = 1e-4, high = 1e-1, log = true }\n"
Contents = Callable[[Path], Any]


@dataclass(frozen=True)
class Kind:
    """A command that is killed.

    Attributes:
        words: the command's arguments; FOLDER stands for the folder of its attempt, ROOT for the benchmark's.
        contents: what must be equal in the end, of a folder.
        before: commands that are not killed and whose outcome every attempt begins with.
        fresh: always by a new interpreter, because the command starts processes of its own.
    """

    name: str
    words: tuple[str, ...]
    contents: Contents
    before: tuple[tuple[str, ...], ...] = ()
    fresh: bool = False

    def command(self, folder: Path) -> list[str]:
        """The arguments of `bench` in a folder."""
        return filled(self.words, folder)


def filled(words: tuple[str, ...], folder: Path) -> list[str]:
    """A command's words with their folders."""
    return [word.replace("FOLDER", str(folder)).replace("ROOT", str(folder.parents[1])) for word in words]


def run_words(model: str, recipe: list[str], regime: str = "centralized", *more: str) -> tuple[str, ...]:
    """`bench run` on the smaller embedded images."""
    fields = [word for field in [*SMALL, *recipe] for word in ("--set", field)]
    fixed = ["--datasets", "phantom-brain", "--seeds", "1", "--protocol", "demo", "--regimes", regime]
    fixed += ["--progress", "plain", "--threads", "1", "--timing", "off", "--out", "FOLDER/run"]
    return ("run", "--models", model, *fixed, *fields, *more)


def kinds(storage: str) -> dict[str, Kind]:
    """Every kind by name; `storage` is the URL of a PostgreSQL server, or "" where there is none."""
    tiny = ("--plugin", "ROOT/tiny.py")
    two = ("deepmedix,deepmedix-noskip", ["tuning=full", "epochs=4"], "centralized")
    answers = ("analyze", "FOLDER/run", "--with", "calibration,decisions,conformal,selective,robustness")
    done = (run_words("linear@tiny", ["tuning=full", "epochs=3"], "centralized", *tiny),)
    added = (("data", "add", "pictures", "ROOT/pictures"),)
    found = [
        Kind("full", run_words("deepmedix", ["tuning=full", "epochs=5"]), run_contents),
        Kind("head", run_words("deepmedix", ["tuning=head", "epochs=20"]), run_contents),
        Kind("refit", run_words("deepmedix", ["tuning=full", "epochs=3", "refit=true"]), run_contents),
        Kind(
            "gradual",
            run_words("gradual", ["tuning=full", "epochs=3"], "centralized", "--plugin", "ROOT/gradual.py"),
            run_contents,
        ),
        *(
            Kind(name, run_words("linear@tiny", FEDERATED, name, *tiny), run_contents)
            for name in (*ALGORITHMS, "twin", "local-only")
        ),
        Kind("jobs-2", run_words(*two, "--jobs", "2"), run_contents, fresh=True),
        Kind("ray", run_words(*two, "--executor", "ray"), run_contents, fresh=True),
        Kind("sweep-sqlite", sweep_words("sqlite:///FOLDER/study.db"), sweep_contents),
        Kind("analyze", (*answers, *tiny), answer_contents, before=done),
        Kind("report", ("report", "FOLDER/run"), report_contents, before=done),
        Kind("prepare", ("data", "prepare", "pictures", "--size", "160"), cache_contents, before=added),
        Kind("audit", ("data", "audit", "pictures", "--html", "FOLDER/audit.html"), audit_contents, before=added),
    ]
    if storage:
        found.append(Kind("sweep-postgresql", sweep_words(storage), sweep_contents))
    return {kind.name: kind for kind in found}


def sweep_words(storage: str) -> tuple[str, ...]:
    """`bench sweep` with its test at the end."""
    fields = [word for field in [*SMALL, "tuning=full", "epochs=3"] for word in ("--set", field)]
    fixed = ["--trials", "5", "--seeds", "1", "--protocol", "demo", "--space", "ROOT/space.toml", "--threads", "1"]
    where = ["--storage", storage, "--out", "FOLDER/run", "--plugin", "ROOT/tiny.py", "--progress", "plain"]
    return ("sweep", "linear@tiny", "--dataset", "phantom-brain", *fixed, *fields, *where)


def prepare(root: Path) -> None:
    """What the commands name in the benchmark's folder: plugins, a space, a dataset of pictures."""
    root.mkdir(parents=True, exist_ok=True)
    examples = re.findall(r"```python\n# example: ([\w-]+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    (root / "gradual.py").write_text(dict(examples)["gradual"])
    (root / "tiny.py").write_text(PLUGIN)
    (root / "space.toml").write_text(SPACE)
    draw = np.random.default_rng(0)
    for number in range(240):
        path = root / "pictures" / ("left", "right")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(path)


def run_contents(folder: Path) -> dict[str, Any]:
    """Everything of the run in a folder that is not a clock's reading."""
    return {"tables": tables(folder / "run"), **contents(folder / "run")}


def contents(run: Path) -> dict[str, Any]:
    """Everything of a run's cells that is not a clock's reading."""
    found: dict[str, Any] = {}
    for cell in Run.open(run).cells():
        assert cell.result is not None, f"{cell.key}: {cell.problem}"
        metrics = {name: value for name, value in cell.result["metrics"].items() if not is_clock(name)}
        weights = cell.folder / "predictor" / "weights.safetensors"
        found[cell.key] = {
            "metrics": metrics,
            **{part: cell.result[part] for part in ("cell", "intervals", "cost", "data", "notes")},
            "predictions": without_clocks(cell.predictions()),
            "history": without_clocks(cell.history()),
            "weights": weights.read_bytes() if weights.is_file() else b"",
        }
    return found


def tables(run: Path) -> dict[str, Any]:
    """The report's tables, less the clocks' columns."""
    return {name: table(run / "report" / name) for name in ("results.csv", "summary.csv")}


def table(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows, less the clocks' columns."""
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if not is_clock(name)} for row in csv.DictReader(file)]


def sweep_contents(folder: Path) -> dict[str, Any]:
    """A study's trials and choice, and the cells of its test."""
    (path,) = (folder / "run").glob("sweeps/*.json")
    study = json.loads(path.read_text())
    study.pop("written")
    for trial in study["trials"]:
        trial.pop("seconds")
    return {"study": study, **run_contents(folder)}


def answer_contents(folder: Path) -> dict[str, Any]:
    """Every answer with its files."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "run").glob("cells/*/analyses/**/*")):
        if path.suffix == ".json" and path.parent.name == "analyses":
            answer = json.loads(path.read_text())
            found[path.name] = {name: value for name, value in answer.items() if name not in ("written", "seconds")}
        elif path.is_file() and not path.name.startswith("."):
            found[path.name] = path.read_bytes()
    return found


def report_contents(folder: Path) -> dict[str, Any]:
    """Every file of a report."""
    files = sorted(path for path in (folder / "run" / "report").rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files if not path.name.startswith(".")}


def cache_contents(folder: Path) -> dict[str, bytes]:
    """Decoded images and their index."""
    files = sorted(path for path in (folder / "cache" / "images").rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files if path.name != "lock"}


def audit_contents(folder: Path) -> dict[str, bytes]:
    """The stored audit, and its page."""
    files = sorted((folder / "home" / "audits").rglob("*.json"))
    return {path.name: path.read_bytes() for path in [*files, folder / "audit.html"]}


def without_clocks(found: pa.Table) -> dict[str, list[Any]]:
    """A table's columns, less the clocks'."""
    kept = found.drop_columns([name for name in found.column_names if is_clock(name)])
    columns: dict[str, list[Any]] = kept.to_pydict()
    return columns


def is_clock(column: str) -> bool:
    """Whether a column is measured anew by each process: times, the machine's load, the profiler's peak of memory."""
    measured = ("seconds", "train_images_per_s", "train_batch_ms", "infer_batch_ms", "machine_busy", "peak_memory_mb")
    return column.startswith(measured)
