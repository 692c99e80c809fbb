"""The command line as its user sees it: exit codes, one sentence for a mistake, JSON and nothing else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.options import print_as_known
from bench.core.errors import UserError

SMALL = ["image_size=32", "epochs=2", "synthetic_images=60", "timing_batch_size=2", "bootstrap_resamples=100"]
TINY = [word for field in SMALL for word in ("--set", field)]
RUN = ["run", "--models", "linear@tiny", "--datasets", "phantom-brain", "--protocol", "demo", "--seeds", "1"]
SMALL_RUN = [*RUN, "--regimes", "centralized", *TINY]


def commands(group: typer.core.TyperGroup, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every leaf command with its help."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command.help or ""


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, typer.core.TyperGroup)
COMMANDS = list(commands(ROOT))


@pytest.mark.parametrize(("path", "text"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_commands_help_has_an_example(path: tuple[str, ...], text: str) -> None:
    assert f"bench {' '.join(path)}" in text


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "pyarrow", "flwr")
    code = f"import sys; import bench.cli.app; print([m for m in {heavy!r} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_mistake_is_one_sentence_and_exit_code_2() -> None:
    arguments = [sys.executable, "-m", "bench", "run", "--models", "depmedix", "--protocol", "demo"]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("bench: no model is called 'depmedix'; did you mean deepmedix")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "epoch=3"], "no field is called 'epoch'"),
        (["--device", "gpu"], "--device takes auto, cpu, cuda or cuda:N"),
        (["--set", "precision=fp16", "--device", "cpu"], "runs on GPUs only"),
        (["--progress", "loud"], "--progress 'loud'"),
        (["--seeds", "many"], "--seeds takes a count"),
    ],
)
def test_bad_options_change_nothing(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, [*SMALL_RUN, *arguments, "--out", str(out)])
    assert isinstance(result.exception, UserError)
    assert sentence in str(result.exception)
    assert not out.exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, [*SMALL_RUN, "--dry-run", "--json", "--out", str(out)])
    assert result.exit_code == 0
    planned = json.loads(result.stdout)
    assert planned["pending"] == 1
    assert planned["cells"][0]["model"] == "linear@tiny"
    assert not out.exists()


def test_a_run_ends_with_a_report_and_goes_on_when_repeated(tmp_path: Path) -> None:
    arguments = [*SMALL_RUN, "--json", "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["done"], told["of"]) == (1, 1)
    assert Path(told["report"]).is_file()
    result = next((tmp_path / "run").glob("cells/*/result.json"))
    written = result.stat().st_mtime_ns
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert result.stat().st_mtime_ns == written


def test_a_failed_cell_makes_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(job: object) -> None:
        raise ValueError("no such luck")

    monkeypatch.setattr("bench.executors.serial.run_cell", failing)
    result = CliRunner().invoke(app, [*SMALL_RUN, "--progress", "plain", "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "ValueError: no such luck" in result.stdout


def test_listings_are_json_documents() -> None:
    models = json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)
    assert {"deepmedix", "vit_b_16"} <= {row["name"] for row in models}
    regimes = json.loads(CliRunner().invoke(app, ["regimes", "--json"]).stdout)
    assert {"centralized", "fedavg"} <= {row["name"] for row in regimes}
    card = json.loads(CliRunner().invoke(app, ["models", "show", "deepmedix", "--json"]).stdout)
    assert card["params_m"] == pytest.approx(2.329236)


def test_a_profile_has_the_papers_flops() -> None:
    asked = ["profile", "deepmedix", "--timing", "off", "--json"]
    (row,) = json.loads(CliRunner().invoke(app, asked).stdout)
    assert row["flops_m"] == pytest.approx(613, rel=0.005)
    assert row["uncounted"]


def test_the_doctor_knows_the_machine() -> None:
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert found["packages"]["torch"]
    assert found["cores"] >= 1


def test_a_table_grows_as_rows_become_known() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)

    def rows() -> Iterator[dict[str, object]]:
        yield {"model": "first", "ms": 1.5}
        assert "first" in shown.getvalue()
        yield {"model": "second", "ms": None}

    assert [row["model"] for row in print_as_known(rows(), ["model", "ms"], console)] == ["first", "second"]
    assert "second" in shown.getvalue()


def test_a_table_for_a_file_is_written_once() -> None:
    written = io.StringIO()
    rows = ({"model": name} for name in ("first", "second"))
    print_as_known(rows, ["model"], Console(file=written, width=80))
    assert written.getvalue().split() == ["model", "first", "second"]


def test_profile_prints_counts_and_times_of_each_model() -> None:
    asked = ["profile", "linear@resnet18", "--timing", "quick", "--set", "image_size=32"]
    result = CliRunner().invoke(app, [*asked, "--set", "timing_batch_size=2"], env={"COLUMNS": "240"})
    assert result.exit_code == 0, result.output
    assert result.stdout.count("linear@resnet18") == 2


def test_a_profile_says_that_a_searched_networks_cost_is_found_by_the_search() -> None:
    found = CliRunner().invoke(app, ["profile", "anaraki-gacnn", "btc-fcnn", "--timing", "off"])
    assert found.exit_code == 0, found.output
    assert "anaraki-gacnn: found by the search" in found.output
    assert "btc-fcnn:" not in found.output
