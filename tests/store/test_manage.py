"""Runs as things: listed, merged, trimmed, packed; a run's file; predictions brought from elsewhere."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.config import load_protocol
from bench.core.errors import UserError
from bench.store.archive import archive, without_paths
from bench.store.manage import drop, merge, runs_in
from bench.store.run import Run
from bench.store.runfile import read_run_file

OPTIONS = frozenset(("models", "datasets", "seeds", "protocol", "overrides", "analyses", "out", "jobs"))


def bench(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: None) -> Path:
    """Two runs: "one" of seed 0, "two" of seeds 0 and 1, by a run's file."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "run.toml").write_text(
        'threads = 1\nmodels = ["linear@tiny"]\ndatasets = "phantom-brain"\nregimes = "centralized"\nseeds = [0]\ntiming = "off"\n'
        'progress = "none"\n[protocol]\nbase = "demo"\nimage_size = 32\nepochs = 2\nsynthetic_images = 90\n'
    )
    bench("run", "--config", str(folder / "run.toml"), "--out", str(folder / "one"))
    bench("run", "--config", str(folder / "run.toml"), "--seeds", "2", "--out", str(folder / "two"))
    return folder


def test_a_run_writes_the_file_that_repeats_it(made: Path, tmp_path: Path) -> None:
    bench(
        "run",
        "--config",
        str(made / "two" / "repeat.toml"),
        "--out",
        str(tmp_path / "again"),
        "--timing",
        "off",
        "--threads",
        "1",
    )
    again, first = Run.open(tmp_path / "again"), Run.open(made / "two")
    assert [cell.key for cell in again.cells()] == [cell.key for cell in first.cells()]
    assert len(first.cells()) == 2
    assert again.cells()[1].predictions().equals(first.cells()[1].predictions())


def test_a_runs_file_reads_as_the_options_do(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('models = ["a", "b"]\nseeds = [3]\nwith = "calibration"\n[protocol.federated]\nclients = 7\n')
    found = read_run_file(path, OPTIONS)
    assert (found["models"], found["seeds"], found["analyses"]) == ("a,b", "3,", "calibration")
    assert load_protocol(found["protocol"], found["overrides"]).federated.clients == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [("model = 'a'", "no option 'model'; did you mean models"), ("models = 3", "models"), ("models = [[1]]", "models"),
     ("models = [", "not valid TOML")],
)  # fmt: skip
def test_a_bad_runs_file_is_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_run_file(path, OPTIONS)


def test_runs_are_listed_and_a_foreign_one_says_so(made: Path, tmp_path: Path) -> None:
    assert [(row["run"], row["cells"], row["done"]) for row in runs_in(made)] == [("one", 1, 1), ("two", 2, 2)]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "plan.json").write_text('{"schema": 99, "cells": []}')
    assert "another version" in runs_in(tmp_path)[0]["problem"]
    assert "linear@tiny" in bench("runs", "show", str(made / "two"))


def test_two_machines_runs_become_one_and_lose_a_condition(made: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    assert merge([made / "one", made / "two"], both) == {"cells": 2, "copied": 2, "shared": 1}
    cells = Run.open(both).cells()
    assert {cell.status for cell in cells} == {"done"}
    assert merge([made / "one"], both)["copied"] == 0
    assert drop(both, "* seed 1") == ["linear@tiny · phantom-brain · grouped · centralized · seed 1"]
    assert [cell.spec["seed"] for cell in Run.open(both).cells()] == [0]
    assert len(list((both / "cells").iterdir())) == 1


def test_one_cell_with_two_results_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    merge([made / "one"], other)
    path = next(other.glob("cells/*/predictions.parquet"))
    table = pq.read_table(path).to_pandas()
    shares = [name for name in table if name.startswith("p_")]
    table[shares] = 0.999 * table[shares] + 0.001 / len(shares)
    table[shares] = table[shares].astype(np.float32)
    table.to_parquet(path, index=False)
    with pytest.raises(UserError, match="with different predictions"):
        merge([made / "one", other], tmp_path / "both")


def test_a_cell_that_is_being_run_is_not_dropped(made: Path, tmp_path: Path) -> None:
    merge([made / "one"], tmp_path / "copy")
    folder = next((tmp_path / "copy" / "cells").iterdir())
    with FileLock(folder / ".lock"), pytest.raises(UserError, match="is being run"):
        drop(tmp_path / "copy", "*")
    assert Run.open(tmp_path / "copy").cells()[0].status == "done"


def test_an_archive_opens_elsewhere_without_state_and_paths(made: Path, tmp_path: Path) -> None:
    merge([made / "one"], tmp_path / "copy")
    cell = next((tmp_path / "copy" / "cells").iterdir())
    (cell / "last.ckpt").write_bytes(b"state")
    (cell / "clients").mkdir()
    (cell / "clients" / "0.npz").write_bytes(b"state")
    names = archive(tmp_path / "copy", tmp_path / "copy.tar.gz")
    assert not any("last.ckpt" in name or "clients" in name for name in names)
    with tarfile.open(tmp_path / "copy.tar.gz") as packed:
        packed.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "copy"
    assert Run.open(there).cells()[0].status == "done"
    assert str(tmp_path) not in "".join(path.read_text() for path in there.rglob("*.json"))
    with pytest.raises(UserError, match="lies in the run"):
        archive(tmp_path / "copy", tmp_path / "copy" / "x.tar.gz")


@pytest.mark.parametrize(
    ("text", "left"),
    [("--weights /home/a/w.safetensors --out ~/runs/x", "--weights w.safetensors --out x"),
     ("seconds/batch", "seconds/batch"), ("https://a.org/b/c", "https://a.org/b/c"), ("C:/Users/a/w.pth", "w.pth")],
)  # fmt: skip
def test_paths_are_cut_to_their_last_part(text: str, left: str) -> None:
    assert without_paths({"command": [text]}) == {"command": [left]}


def test_a_cells_own_predictions_score_as_the_cell_does(made: Path, tmp_path: Path) -> None:
    cell = Run.open(made / "one").cells()[0]
    table = cell.predictions().to_pandas().drop(columns=["group", "site", "label"]).sample(frac=1, random_state=0)
    table.to_csv(tmp_path / "theirs.csv", index=False)
    words = ["score", str(tmp_path / "theirs.csv"), "--dataset", "phantom-brain", "--protocol", "demo"]
    sets = [f"--set={name}" for name in ("image_size=32", "epochs=2", "synthetic_images=90")]
    bench(*words, *sets, "--out", str(tmp_path / "run"))
    scored = Run.open(tmp_path / "run").cells()[0]
    own = cell.result or {}
    assert scored.spec["model"] == "external:theirs"
    found = scored.result or {}
    assert {name: own["metrics"][name] for name in found["metrics"]} == found["metrics"]
    assert found["intervals"] == own["intervals"]
    assert json.loads(bench("report", str(tmp_path / "run"), "--json"))["problems"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [("lose", "1 of 15 are missing"), ("twice", "give each test image once"), ("column", "lacks the columns p_"),
     ("text", "what is no number"), ("sum", "sum to 1")],
)  # fmt: skip
def test_predictions_that_will_not_do_are_a_sentence(made: Path, tmp_path: Path, change: str, message: str) -> None:
    table = Run.open(made / "one").cells()[0].predictions().to_pandas().drop(columns=["group", "site", "label"])
    rows = [{name: str(value) for name, value in row.items()} for row in table.to_dict("records")]
    if change == "lose":
        rows = rows[1:]
        message = f"1 of {len(table)} are missing"
    elif change == "twice":
        rows.append(rows[0])
    elif change == "column":
        rows = [{name: value for name, value in row.items() if name != table.columns[-1]} for row in rows]
    else:
        rows[0][table.columns[-1]] = "much" if change == "text" else "7"
    with (tmp_path / "bad.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    words = ["score", str(tmp_path / "bad.csv"), "--dataset", "phantom-brain", "--protocol", "demo"]
    with pytest.raises(UserError, match=message):
        bench(*words, "--set", "synthetic_images=90", "--out", str(tmp_path / "run"))
