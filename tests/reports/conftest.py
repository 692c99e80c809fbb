"""Runs made by hand: the run folder's layout with invented metrics, quick enough to make a thousand cells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.identity import derive_seed, digest
from bench.measure.quality import intervals, quality

DEEPMEDIX = (
    "deepmedix", "deepmedix-gmp", "deepmedix-noskip", "deepmedix-nodropout", "deepmedix-noskip-nodropout",
    "deepmedix-wide", "deepmedix-wide-noskip", "deepmedix-wide-nodropout", "deepmedix-wide-noskip-nodropout",
)  # fmt: skip
SKILL = {"deepmedix": 2.4, "resnet18": 2.5, "mobilenet_v2": 2.2, "squeezenet1_1": 1.6}
MACS = {"resnet18": 1814.0, "mobilenet_v2": 299.6, "squeezenet1_1": 352.0, "densenet121": 2834.0}
DATASETS: dict[str, dict[str, Any]] = {
    "figshare-brain": {"classes": ["glioma", "meningioma", "pituitary"], "shares": [0.46, 0.23, 0.31], "n": 620},
    "br35h": {"classes": ["no", "yes"], "shares": [0.5, 0.5], "n": 600},
    "phantom-skin": {
        "classes": ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"],
        "shares": [0.6, 0.12, 0.11, 0.06, 0.05, 0.03, 0.03],
        "n": 300,
        "synthetic": True,
    },
    "isic2019": {"classes": ["MEL", "NV"], "shares": [0.4, 0.6], "n": 200, "expected": 25331, "images": 10015},
    "brain-kaggle": {
        "classes": ["glioma", "meningioma", "notumor", "pituitary"],
        "shares": [0.25] * 4,
        "n": 500,
        "audit": "leaks: 189 byte-identical pairs across parts",
    },
}
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PROTOCOL = {"image_size": 96, "epochs": 8, "tuning": "head", "weights": "imagenet", "normalization": "weights"}


def spec_of(model: str, dataset: str, seed: int, regime: str = "centralized", split: str = "grouped") -> dict[str, Any]:
    return {
        "model": model, "dataset": dataset, "split": split, "regime": regime, "seed": seed, "protocol": dict(PROTOCOL)
    }  # fmt: skip


def draw_predictions(model: str, dataset: str, seed: int, regime: str = "centralized") -> dict[str, Any]:
    """Predictions whose images depend on dataset and seed alone, so that models are paired."""
    about = DATASETS[dataset]
    classes, size = about["classes"], about["n"]
    images = np.random.default_rng(derive_seed(dataset, seed))
    labels = np.r_[np.arange(len(classes)), images.choice(len(classes), size - len(classes), p=about["shares"])]
    hardness = images.normal(size=(size, len(classes)))
    own = np.random.default_rng(derive_seed(model, dataset, seed, regime)).normal(size=(size, len(classes)))
    skill = SKILL.get(model.split("@")[0], 2.0) - (0.3 if regime != "centralized" else 0)
    logits = 1.1 * hardness + 0.5 * own + skill * 1.4 * np.eye(len(classes))[labels]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {
        "image_id": [f"{dataset}-{index:05d}" for index in range(size)],
        "group": [f"patient{index // 2:04d}" for index in range(size)],
        "site": [f"site{index % 4}" if regime != "centralized" else "" for index in range(size)],
        "label": labels,
        **{f"p_{name}": shares[:, index].astype(np.float32) for index, name in enumerate(classes)},
    }


def history_of(epochs: int, final: float, federated: bool) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        part = 1 - np.exp(-epoch / 2)
        row = {"train_loss": 1.5 - 1.2 * part, "train_accuracy": 0.4 + 0.58 * part, "val_loss": 1.4 - 0.9 * part}
        row |= {"val_accuracy": 0.35 + (final - 0.35) * part, "learning_rate": 1e-3 / (1 + epoch // 3), "seconds": 2.0}
        if federated:
            row |= {
                "round": epoch,
                "up_mb": 4.1,
                "down_mb": 4.3,
                "val_worst_client_accuracy": row["val_accuracy"] - 0.08,
            }
            row |= {"val_p10_client_accuracy": row["val_accuracy"] - 0.06, "val_client_accuracy_spread": 0.03}
            row |= {"val_mean_client_accuracy": row["val_accuracy"]}
        else:
            row["epoch"] = epoch
        rows.append(row)
    return rows


class FakeRun:
    """A run folder under construction."""

    spec = staticmethod(spec_of)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        (path / "cells").mkdir(parents=True)
        self.environment = {
            "bench": "0.1.0", "python": "3.11.2", "platform": "Linux", "processor": "AMD EPYC", "cores": 2,
            "packages": {"torch": "2.15.0", "timm": None}, "gpus": [], "digest": "abc",
        }  # fmt: skip
        (path / "environment.json").write_text(json.dumps(self.environment))
        self.write_plan()

    def write_plan(self) -> None:
        plan = {"schema": 1, "command": "bench run --models all", "written": "2026-11-23T10:00:00+00:00"}
        (self.path / "plan.json").write_text(json.dumps({**plan, "cells": self.entries}))

    def plan(self, spec: dict[str, Any]) -> Path:
        key = digest(spec, 20)
        self.entries.append({"key": key, "cell": spec})
        self.write_plan()
        return self.path / "cells" / key

    def like(self, key: str, spec: dict[str, Any]) -> str:
        """A finished cell with another one's metrics: quick, for large runs. The plan is not written."""
        source, new = self.path / "cells" / key, digest(spec, 20)
        folder = self.path / "cells" / new
        folder.mkdir()
        for name in ("predictions.parquet", "history.parquet", "predictor/weights.safetensors"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes((source / name).read_bytes())
        result = json.loads((source / "result.json").read_text()) | {"key": new, "cell": spec}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "cell.json").write_text(json.dumps({"key": new, **spec}))
        self.entries.append({"key": new, "cell": spec})
        return new

    def missing(self, spec: dict[str, Any]) -> str:
        return self.plan(spec).name

    def failed(self, spec: dict[str, Any], error: str = "RuntimeError: out of paper") -> str:
        folder = self.plan(spec)
        folder.mkdir()
        (folder / "cell.json").write_text(json.dumps({"key": folder.name, **spec}))
        failure = {"key": folder.name, "cell": spec, "error": error, "traceback": "Traceback ...", "when": "now"}
        (folder / "failure.json").write_text(json.dumps(failure))
        return folder.name

    def done(
        self,
        spec: dict[str, Any],
        predictions: dict[str, Any] | None = None,
        resamples: int = 100,
        **changes: Any,
    ) -> str:
        """Write a finished cell; `changes` replace parts of its result."""
        folder = self.plan(spec)
        folder.mkdir()
        dataset, federated = DATASETS[spec["dataset"]], spec["regime"] != "centralized"
        table = predictions or draw_predictions(spec["model"], spec["dataset"], spec["seed"], spec["regime"])
        classes = [name.removeprefix("p_") for name in table if name.startswith("p_")]
        shares = np.stack([table[f"p_{name}"] for name in classes], axis=1)
        metrics = {name: _number(value) for name, value in quality(table["label"], shares, classes).items()}
        bounds = intervals(table["label"], shares, table["group"], classes, most_parts=resamples)
        macs = MACS.get(spec["model"], 299.6)
        if federated:
            metrics |= {
                "up_mb": 33.0,
                "down_mb": 34.4,
                "rounds": 8.0,
                "clients_tested": 4.0,
                "worst_client_accuracy": metrics["accuracy"] - 0.07,
            }
        result = {
            "schema": 1, "key": folder.name, "cell": spec, "metrics": {**metrics, "best_epoch": 7.0},
            "intervals": {name: [_number(low), _number(high)] for name, (low, high) in bounds.items()},
            "cost": {"params_m": 2.329, "macs_m": macs, "flops_m": 2 * macs + 13.4, "activations_m": 6.7,
                     "uncounted": {"aten::hardtanh_": 35}, "image_size": 96},
            "timing": {"train_batch_ms": 300.0 + macs / 9, "train_batch_ms_p95": 340.0, "infer_batch_ms": macs / 5,
                       "infer_batch_ms_p95": 80.0, "device": "AMD EPYC", "device_kind": "cpu", "timed_precision": "32",
                       "threads": 2, "batch_size": 32, "peak_memory_mb": 900.0, "energy_j": None},
            "data": {"classes": classes, "images": dataset.get("images", 5 * dataset["n"]),
                     "expected": dataset.get("expected"), "n_train": 7 * dataset["n"] // 2, "n_val": dataset["n"] // 2,
                     "n_test": len(table["label"]), "groups_test": len(set(table["group"])),
                     "synthetic": dataset.get("synthetic", False), "fingerprint": digest(spec["dataset"]),
                     "test_fingerprint": digest([spec["dataset"], spec["seed"]]), "paper_name": "",
                     "audit": dataset.get("audit", "clean"), "notes": []},
            "notes": [], "started": "2026-11-23T10:00:00+00:00", "seconds": 61.5, **changes,
        }  # fmt: skip
        (folder / "cell.json").write_text(json.dumps({"key": folder.name, **spec}))
        pq.write_table(
            pa.table({name: pa.array(values) for name, values in table.items()}), folder / "predictions.parquet"
        )
        rows = history_of(8, metrics["accuracy"] or 0.5, federated)
        pq.write_table(pa.Table.from_pylist(rows), folder / "history.parquet")
        (folder / "predictor").mkdir()
        (folder / "predictor" / "weights.safetensors").write_bytes(_weights())
        (folder / "result.json").write_text(json.dumps(result))
        return folder.name


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _weights() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 8


def grid(
    run: FakeRun, models: Sequence[str], datasets: Sequence[str], seeds: int, regimes: Sequence[str] = ("centralized",)
) -> FakeRun:
    for dataset in datasets:
        for seed in range(seeds):
            for model in models:
                for regime in regimes:
                    run.done(spec_of(model, dataset, seed, regime), resamples=100)
    return run


@pytest.fixture(scope="session")
def make_run() -> Callable[[Path], FakeRun]:
    """`FakeRun`, for fixtures that outlive a test."""
    return FakeRun


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[[], FakeRun]:
    """A factory of empty runs."""
    made: list[int] = []

    def make() -> FakeRun:
        made.append(1)
        return FakeRun(tmp_path / f"run{len(made)}")

    return make


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of cell: two regimes, three datasets, the ablations, failures. To be read, not written."""
    run = FakeRun(tmp_path_factory.mktemp("full") / "demo")
    grid(run, [*DEEPMEDIX, "mobilenet_v2", "resnet18", "squeezenet1_1"], ["figshare-brain", "br35h"], 2)
    grid(run, ["deepmedix", "mobilenet_v2", "resnet18"], ["phantom-skin"], 1, ["centralized", "fedavg"])
    grid(run, ["deepmedix"], ["brain-kaggle", "isic2019"], 3)
    run.failed(spec_of("densenet121", "br35h", 0))
    run.missing(spec_of("densenet121", "br35h", 1))
    return run.path


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    """`spec_of`, for tests."""
    return spec_of


@pytest.fixture
def predictions() -> Callable[..., dict[str, Any]]:
    """`draw_predictions`, for tests."""
    return draw_predictions


@pytest.fixture
def fill_grid() -> Callable[..., FakeRun]:
    """`grid`, for tests."""
    return grid


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, which logs what it says and asks for."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = selenium.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()
