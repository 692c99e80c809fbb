from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.cli.data import app
from bench.core.errors import UserError

runner = CliRunner()


def call(*arguments: str) -> object:
    """The JSON document that a command prints, and nothing else."""
    result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def clinic(tmp_path: Path, draw) -> Path:
    for row in range(24):
        draw(tmp_path / "clinic" / ("ill" if row % 2 else "[red]well") / f"{row:02d}.png", row, size=(64, 64))
    return tmp_path / "clinic"


def test_list_names_what_is_available_and_what_brings_the_rest():
    rows = {row["name"]: row for row in call("list")}
    assert rows["phantom-brain"]["available"] is True
    assert "bench data fetch isic2019" in rows["isic2019"]["where"]
    assert "phantom-brain" in runner.invoke(app, ["list"]).output


def test_add_show_audit_prepare_remove(clinic: Path, tmp_path: Path):
    added = call("add", "clinic", str(clinic), "--kind", "skin")
    assert added["classes"] == {"[red]well": 12, "ill": 12}
    shown = call("show", "clinic", "--sheet", str(tmp_path / "sheet.png"))
    assert shown["images"] == 24
    assert shown["path"] == str(clinic)
    assert Image.open(tmp_path / "sheet.png").size == (768, 2 * (18 + 96))
    assert "[red]well 12" in runner.invoke(app, ["show", "clinic"]).output
    prepared = call("prepare", "clinic", "--size", "32")
    assert Path(prepared["path"]).stat().st_size == 24 * 32 * 32 * 3
    audit = call("audit", "clinic", "--html", str(tmp_path / "audit.html"))
    assert audit["splits"]["grouped"]["verdict"] == "clean"
    assert (tmp_path / "audit.html").is_file()
    assert call("remove", "clinic") == {"name": "clinic", "removed": True}
    assert clinic.is_dir()


def test_a_card_of_what_is_not_available_says_how_to_get_it():
    card = call("show", "br35h")
    assert card["available"] is False
    assert "kaggle.com" in card["how to get it"]
    assert card["reading"].startswith("row 8")
    assert card["verified"] is False


def test_strict_fails_when_a_split_leaks(clinic: Path):
    for row in range(12):
        (clinic / "ill" / f"copy{row}.png").write_bytes((clinic / "ill" / f"{2 * row + 1:02d}.png").read_bytes())
    call("add", "clinic", str(clinic))
    assert runner.invoke(app, ["audit", "clinic", "--split", "image", "--strict"]).exit_code == 1
    assert runner.invoke(app, ["audit", "clinic", "--split", "grouped", "--strict"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "x", "/nowhere/at/all"], "there is no /nowhere/at/all"),
        (["add", "x", ".", "--kind", "heart"], "--kind is brain, skin or other"),
        (["show", "nothing-like-it"], "no dataset is called"),
        (["fetch", "phantom-brain"], "cannot be fetched by a program: always available"),
        (["remove", "x"], "nothing was added under the name 'x'"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str):
    with pytest.raises(UserError, match=message):
        runner.invoke(app, arguments, catch_exceptions=False)


def test_every_command_has_an_example_and_the_module_imports_nothing_heavy():
    for command in app.registered_commands:
        assert "Example: `bench data" in (command.callback.__doc__ or "")
    heavy = ("numpy", "torch", "pandas", "pydantic", "PIL")
    code = f"import bench.cli.data, sys; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
