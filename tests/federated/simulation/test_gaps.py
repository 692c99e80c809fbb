"""The gap to the twin, and the way there, from files made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.atomic import write_json
from bench.core.config import TWIN_FIELDS, Federation
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.measure.statistics.paired import holm
from bench.store.files import write_table
from bench.store.layout import HISTORY, PREDICTIONS, RESULT
from bench.store.run import Run
from federated.simulation.passes import passes_of, twin_protocol
from models.recipes.context import FitContext
from reports.compare.federated import gap_rows, gap_table, gaps, to_reach
from reports.load.source import load
from reports.tables import grid

CLASSES = ["a", "b"]


def store(
    run: Run,
    regime: str,
    right: list[bool],
    history: list[dict[str, Any]],
    seed: int = 0,
    protocol: dict[str, Any] | None = None,
    fingerprint: str = "f",
) -> dict[str, Any]:
    """Write a finished cell whose image i has label 0 and is predicted rightly or not."""
    spec: dict[str, Any] = {"model": "m", "dataset": "d", "split": "grouped", "regime": regime, "seed": seed}
    spec["protocol"] = protocol or {}
    key = f"{regime}-{digest([spec, fingerprint], 12)}"
    folder = run.folder(key)
    accuracy = sum(right) / len(right)
    ids = [f"i{n}" for n in range(len(right))]
    first = [0.9 if hit else 0.1 for hit in right]
    columns = {"image_id": ids, "group": ids, "site": [""] * len(ids), "label": [0] * len(ids)}
    write_table(folder / PREDICTIONS, pa.table({**columns, "p_a": first, "p_b": [1 - p for p in first]}))
    write_table(folder / HISTORY, pa.Table.from_pylist(history))
    result = {
        "schema": 1,
        "key": key,
        "cell": spec,
        "metrics": {"accuracy": accuracy},
        "data": {"classes": CLASSES, "fingerprint": fingerprint},
    }
    write_json(folder / RESULT, {**result, "intervals": {}, "cost": {}, "timing": {}, "notes": [], "seconds": 1.0})
    return {"key": key, "cell": spec}


def rounds(accuracies: list[float]) -> list[dict[str, Any]]:
    return [{"round": n + 1, "val_accuracy": a, "up_mb": 1.0, "down_mb": 2.0} for n, a in enumerate(accuracies)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run")
    twin = [{"epoch": 0, "val_accuracy": 0.5}, {"epoch": 1, "val_accuracy": 0.8}]
    cells = [
        store(made, "twin", [True] * 16 + [False] * 4, twin),
        store(made, "fedavg", [True] * 12 + [False] * 8, rounds([0.4, 0.75, 0.77])),
        store(made, "scaffold", [True] * 16 + [False] * 4, rounds([0.8])),
    ]
    made.write_plan(cells, "test")
    return made


def test_the_gap_is_paired_and_counts_the_way(run: Run) -> None:
    fedavg, scaffold = gap_rows(run.path)
    assert fedavg["regime"] == "fedavg"
    assert fedavg["gap"] == pytest.approx(-0.2)
    assert fedavg["low"] <= -0.2 <= fedavg["high"] < 0.05
    assert (fedavg["rounds_90"], fedavg["mb_90"]) == (2.0, 6.0)
    assert (fedavg["rounds_95"], fedavg["mb_95"]) == (3.0, 9.0)
    assert fedavg["rounds_99"] is None
    assert scaffold["gap"] == 0
    assert scaffold["rounds_99"] == 1.0


def test_a_run_without_a_twin_says_so(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "other")
    made.write_plan([store(made, "fedavg", [True] * 4, rounds([0.5]))], "test")
    (row,) = gap_rows(made.path)
    assert row["gap"] is None
    assert row["problem"] == "no twin was run: add the regime twin to the run"


def hits(right: int, images: int = 20) -> list[bool]:
    return [True] * right + [False] * (images - right)


def test_three_protocols_in_one_run_are_three_gaps_each_to_its_own_twin(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "three")
    cells = []
    for epochs, ours, theirs in ((1, 10, 10), (2, 14, 18), (3, 19, 12)):
        protocol = {"epochs": epochs, "federated": {"rounds": None}}
        cells.append(store(made, "twin", hits(theirs), [{"epoch": 0, "val_accuracy": 0.5}], protocol=protocol))
        cells.append(store(made, "fedavg", hits(ours), rounds([0.5]), protocol=protocol))
    made.write_plan(cells, "test")
    found = gap_rows(made.path)
    assert [row["variant"] for row in found] == ["epochs=1", "epochs=2", "epochs=3"]
    assert [row["gap"] for row in found] == pytest.approx([0, -0.2, 0.35])
    assert [row["p_holm"] for row in found] == pytest.approx(holm([row["p"] for row in found]))
    assert found[2]["p_holm"] == pytest.approx(3 * found[2]["p"])
    drawn = gap_table(gaps(load(made.path), grid.rows(load(made.path).cells)))
    assert drawn is not None
    assert [line[5].text for line in drawn.body] == ["+0.0", "−20.0", "+35.0"]
    printed = CliRunner().invoke(app, ["fed", "gaps", str(made.path)], env={"COLUMNS": "200"})
    assert printed.exit_code == 0
    assert "+35.0 [" in printed.stdout


def test_twins_that_differ_in_what_the_clients_do_are_told_apart(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "passes")
    cells = []
    for passes, ours, theirs in ((1, 10, 10), (2, 17, 12)):
        protocol = {"federated": {"local_epochs": passes}}
        cells.append(store(made, "twin", hits(theirs), [{"epoch": 0, "val_accuracy": 0.5}], protocol=protocol))
        cells.append(store(made, "fedavg", hits(ours), rounds([0.5]), protocol=protocol))
    made.write_plan(cells, "test")
    source = load(made.path)
    drawn = gap_table(gaps(source, grid.rows(source.cells)))
    assert drawn is not None
    assert [line[5].text for line in drawn.body] == ["+0.0", "+25.0"]


def test_a_twin_of_another_protocol_is_a_sentence_and_no_gap(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "unlike")
    twin = {"epochs": 5, "federated": {"rounds": 4, "local_epochs": 2, "alpha": 0.1}}
    ours = {"epochs": 5, "federated": {"rounds": 4, "local_epochs": 1, "alpha": 9.0}}
    cells = [
        store(made, "twin", hits(15), [{"epoch": 0, "val_accuracy": 0.5}], protocol=twin),
        store(made, "fedavg", hits(10), rounds([0.5]), protocol=ours),
    ]
    made.write_plan(cells, "test")
    (row,) = gap_rows(made.path)
    assert (row["gap"], row["twin"]) == (None, None)
    assert "the regime twin was run with other federated.local_epochs (1, the twin 2)" in row["problem"]
    printed = CliRunner().invoke(app, ["fed", "gaps", str(made.path)], env={"COLUMNS": "200"})
    assert "no twin under this protocol" in printed.stdout


def test_where_no_twin_matches_the_centralized_cell_of_the_protocol_stands_in(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "plain")
    cells = [
        store(made, "twin", hits(20), [{"epoch": 0, "val_accuracy": 0.5}], protocol={"epochs": 9}),
        store(made, "centralized", hits(15), [{"epoch": 0, "val_accuracy": 0.5}], protocol={"epochs": 3}),
        store(made, "fedavg", hits(10), rounds([0.5]), protocol={"epochs": 3, "federated": {"clients": 9}}),
    ]
    made.write_plan(cells, "test")
    (row,) = gap_rows(made.path)
    assert (row["against"], row["gap"]) == ("centralized", pytest.approx(-0.25))


def test_a_gap_is_over_the_seeds_that_both_have_and_says_which_were_left_out(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "seeds")
    cells = [store(made, "twin", hits(16), [{"epoch": 0, "val_accuracy": 0.5}], seed=0)]
    cells += [store(made, "fedavg", hits(right), rounds([0.5]), seed=seed) for seed, right in enumerate((12, 20))]
    made.write_plan(cells, "test")
    (row,) = gap_rows(made.path)
    assert (row["accuracy"], row["twin"], row["gap"]) == pytest.approx((0.6, 0.8, -0.2))
    assert row["problem"] == "over the 1 of 2 cells that the twin has too"


def test_an_unknown_column_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="no quality column is called 'acuracy'; did you mean accuracy"):
        gap_rows(run.path, "acuracy")


CHANGED = {
    "rounds": 7, "local_epochs": 3, "local_steps": 4, "participation": 0.5, "local_learning_rate": 0.3, "clients": 3,
    "partition": "dirichlet", "alpha": 3.0, "batch_norm": "personal", "server_momentum": 0.1, "dropout_rate": 0.2,
    "straggler_rate": 0.2, "compression": "int8", "privacy": "local", "noise_multiplier": 3.0,
}  # fmt: skip


@pytest.mark.parametrize("base", [{}, {"local_steps": 2}])
@pytest.mark.parametrize("field", CHANGED)
def test_a_twin_depends_on_no_other_federated_field(
    make_context: Callable[..., FitContext], base: dict[str, Any], field: str
) -> None:
    """What does not count when a twin is matched must not change the twin."""
    contexts = [make_context("twin", **fields) for fields in (base, base | {field: CHANGED[field]})]
    plain, changed = (
        twin_protocol(context.protocol, passes_of(context)).model_copy(update={"federated": Federation()})
        for context in contexts
    )
    assert field in TWIN_FIELDS or plain == changed


def test_rounds_without_validation_are_passed_over() -> None:
    history = [{"round": 1, "val_accuracy": None, "up_mb": 1.0, "down_mb": 1.0}, *rounds([0.1, 0.9])[1:]]
    assert to_reach(history, 0.9) == (2, 5.0)
    assert to_reach(history, 0.95) is None
