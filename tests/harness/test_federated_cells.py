"""Federated and local-only cells: failures of clients, and metrics over clients from the test predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.schema import read_table
from bench.store.cells import StoredCell
from bench.store.files import write_table
from bench.store.run import Run
from federated.client.client import Client
from reports.compare.clients import gain_rows

METRICS = ("mean_client_accuracy", "worst_client_accuracy", "p10_client_accuracy", "client_accuracy_spread")


def by_client(cell: StoredCell) -> Any:
    """Accuracy of each client's test images, from the stored predictions alone."""
    table = cell.predictions().to_pandas()
    shares = table[[name for name in table.columns if name.startswith("p_")]].to_numpy()
    return (shares.argmax(1) == table["label"]).groupby(table["client"]).mean()


def test_a_client_s_failure_is_the_cell_s_with_its_traceback(
    small_plan: Any, run_plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(client: Client, *_: Any) -> None:
        raise ValueError(f"no batch at {client.partition}")

    monkeypatch.setattr(Client, "fit", broken)
    summary = run_plan(small_plan(regimes="fedavg", overrides=("federated.clients=2",)))
    assert (summary.done, summary.failed) == (0, 1)
    (cell,) = Run.open(tmp_path / "run").cells()
    failure = json.loads((cell.folder / "failure.json").read_text())
    assert cell.status == "failed"
    assert failure["error"].startswith("ValueError: no batch at ")
    assert 'raise ValueError(f"no batch at {client.partition}")' in failure["traceback"]
    assert "raised by client" in failure["traceback"]
    assert not (cell.folder / "result.json").exists()


def test_metrics_over_clients_are_of_the_test_images(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    plan = small_plan(
        regimes="fedavg,local-only,centralized", overrides=("federated.clients=3", "synthetic_images=150")
    )
    assert run_plan(plan).done == 3
    cells = {cell.spec["regime"]: cell for cell in Run.open(tmp_path / "run").cells()}
    for regime in ("fedavg", "local-only"):
        result, found = cells[regime].result or {}, by_client(cells[regime])
        expected = (found.mean(), found.min(), np.quantile(found, 0.1), found.std(ddof=0))
        assert [result["metrics"][name] for name in METRICS] == pytest.approx(expected), regime
        low, high = result["intervals"]["mean_client_accuracy"]
        assert low <= result["metrics"]["mean_client_accuracy"] <= high
    of_local = (cells["local-only"].result or {})["metrics"]
    rows = cells["local-only"].history().to_pylist()
    assert of_local["val_worst_local_model_accuracy"] == min(row["val_accuracy"] for row in rows)
    assert not set(METRICS) & (cells["centralized"].result or {})["metrics"].keys()


def test_the_validation_metric_of_a_round_says_so(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    run_plan(small_plan(regimes="fedavg", overrides=("federated.clients=3", "synthetic_images=150")))
    (cell,) = Run.open(tmp_path / "run").cells()
    metrics = (cell.result or {})["metrics"]
    best = cell.history().to_pylist()[int(metrics["best_round"]) - 1]
    for name in METRICS:
        assert metrics[f"val_{name}"] == best[f"val_{name}"]
    assert not set(METRICS) & best.keys()


def test_clients_without_test_images_are_told(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    plan = small_plan(
        regimes="fedavg", overrides=("federated.clients=10", "synthetic_images=150", "federated.rounds=1")
    )
    run_plan(plan)
    (cell,) = Run.open(tmp_path / "run").cells()
    tested = len(by_client(cell))
    assert tested < 10
    assert (
        f"metrics over clients are of {tested} of 10 clients: the others hold no test images"
        in (cell.result or {})["notes"]
    )


@pytest.mark.parametrize(
    ("regime", "renamed"),
    [("fedavg", "val_worst_client_accuracy"), ("local-only", "val_worst_local_model_accuracy")],
)
def test_a_file_of_before_is_read_under_the_name_of_what_it_holds(
    small_plan: Any, run_plan: Any, tmp_path: Path, regime: str, renamed: str
) -> None:
    run_plan(small_plan(regimes=regime, overrides=("federated.clients=2",)))
    run = Run.open(tmp_path / "run")
    path = run.cells()[0].folder / "result.json"
    result = json.loads(path.read_text())
    kept = {
        name: value for name, value in result["metrics"].items() if "client_" not in name and "clients_" not in name
    }
    median = {"median_client": 1.0} if regime == "local-only" else {}
    earlier = {name: value for name, value in kept.items() if "local_model" not in name} | median
    path.write_text(json.dumps({**result, "metrics": {**earlier, "worst_client_accuracy": 0.123}}))
    metrics = (run.cells()[0].result or {})["metrics"]
    assert metrics[renamed] == 0.123
    assert "worst_client_accuracy" not in metrics


def test_a_history_of_before_is_read_under_the_name_of_what_it_holds(
    small_plan: Any, run_plan: Any, tmp_path: Path
) -> None:
    run_plan(small_plan(regimes="fedavg", overrides=("federated.clients=2",)))
    (cell,) = Run.open(tmp_path / "run").cells()
    table = cell.history()
    earlier = {"val_worst_client_accuracy": "client_worst", "val_client_accuracy_spread": "client_spread"}
    write_table(cell.folder / "history.parquet", table.rename_columns([earlier.get(n, n) for n in table.column_names]))
    assert cell.history().equals(table)


def of_own_models(cell: StoredCell) -> Any:
    return read_table(cell.folder / "predictions-own.parquet", "").to_pandas().set_index("image_id")


def test_clients_answer_with_models_of_their_own(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    """Alone, the median client's images have the tested model's answers and the others' have not."""
    plan = small_plan(
        regimes="fedavg,local-only,fedper,ditto", overrides=("federated.clients=3", "synthetic_images=150")
    )
    assert run_plan(plan).done == 4
    cells = {cell.spec["regime"]: cell for cell in Run.open(tmp_path / "run").cells()}
    assert not (cells["fedavg"].folder / "predictions-own.parquet").exists()
    for regime in ("local-only", "fedper", "ditto"):
        metrics, own = (cells[regime].result or {})["metrics"], of_own_models(cells[regime])
        tested = cells[regime].predictions().to_pandas().set_index("image_id").loc[own.index]
        shares = [name for name in own.columns if name.startswith("p_")]
        right = own[shares].to_numpy().argmax(1) == own["label"]
        assert metrics["own_mean_client_accuracy"] == pytest.approx(right.groupby(own["client"]).mean().mean())
        low, high = (cells[regime].result or {})["intervals"]["own_mean_client_accuracy"]
        assert low <= metrics["own_mean_client_accuracy"] <= high
        same = (own[shares] == tested[shares]).all(axis=1).groupby(own["client"]).all()
        expected = f"client {int(metrics['median_client']) + 1}" if regime == "local-only" else None
        assert same[same].index.tolist() == ([expected] if expected else [])
        assert sorted(path.name for path in cells[regime].folder.glob("[!.]*")) == [
            *("cell.json", "history.parquet", "partition.json", "predictions-own.parquet", "predictions.parquet"),
            *("predictor", "result.json"),
        ]


def test_gains_are_of_the_models_that_clients_would_use(small_plan: Any, run_plan: Any, tmp_path: Path) -> None:
    plan = small_plan(
        regimes="fedavg,local-only,twin,fedper", overrides=("federated.clients=3", "synthetic_images=150")
    )
    run_plan(plan)
    cells = {cell.spec["regime"]: cell for cell in Run.open(tmp_path / "run").cells()}
    alone, kept = (of_own_models(cells[name]) for name in ("local-only", "fedper"))
    shares = [name for name in kept.columns if name.startswith("p_")]
    found = {(row["regime"], row["against"], row["client"]): row for row in gain_rows(tmp_path / "run")}
    pairs = {(regime, against) for regime, against, _ in found}
    assert pairs == {("fedavg", "local-only"), ("fedavg", "twin"), ("fedper", "local-only"), ("fedper", "twin"),
                     ("fedper", "fedavg")}  # fmt: skip
    for client, mine in kept.groupby("client"):
        row = found["fedper", "local-only", client]
        other = alone.loc[mine.index]
        ours, theirs = (float((each[shares].to_numpy().argmax(1) == each["label"]).mean()) for each in (mine, other))
        assert (row["of"], row["images"]) == ("own", len(mine))
        assert (row["accuracy"], row["other_accuracy"]) == pytest.approx((ours, theirs))
        assert row["gain"] == pytest.approx(ours - theirs)
        assert row["p"] <= row["p_holm"] <= 1
    assert found["fedavg", "twin", "all"]["of"] == "shared"
