"""Spaces: what they may say, and what they are refused for, with the line in the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from sweeps.space import Choice, Range, default_space, line_of, load_space

GOOD = """# the step first
[protocol]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
epochs = { low = 5, high = 20, step = 5 }
optimizer = ["adam", "sgd"]

[federated]
clients = { low = 2, high = 9 }

[model]
head = ["deepmedix", "linear"]

[regime]
name = ["fedavg", "fedprox"]
"""


def space(tmp_path: Path, text: str, regime: str = "centralized") -> object:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return load_space(path, regime)


def test_a_space_covers_protocol_federated_model_and_regime(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(GOOD)
    found = {one.name: one.domain for one in load_space(path, "fedavg").dimensions}
    assert found == {
        "learning_rate": Range(1e-4, 1e-2, log=True, step=None, whole=False),
        "epochs": Range(5, 20, log=False, step=5, whole=True),
        "optimizer": Choice(("adam", "sgd")),
        "federated.clients": Range(2, 9, log=False, step=None, whole=True),
        "model.head": Choice(("deepmedix", "linear")),
        "regime.name": Choice(("fedavg", "fedprox")),
    }


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[protocol]\n\nlearning_rat = [1e-3]", 3, "no field 'learning_rat' to search; did you mean learning_rate"),
        ("[protocl]\nepochs = [1]", 1, "no table is called 'protocl'; did you mean protocol"),
        ("[protocol]\nepochs = []", 2, "epochs has an empty range"),
        ("[protocol]\nepochs = { low = 9, high = 3 }", 2, "epochs has an empty range: low=9 is not below high=3"),
        ("[protocol]\nepochs = { low = 9, high = 9 }", 2, "has an empty range"),
        ("[protocol]\nepochs = [3]\n# why\nmomentum = { low = 0, high = 0.1, log = true }", 4, "a log scale over zero"),
        ("[protocol]\nweight_decay = { low = -1.0, high = 0.1, log = true }", 2, "a log scale over zero"),
        ("[protocol]\nlearning_rate = { low = 0.0, high = 0.1 }", 2, "= 0.0 will not do: input should be greater"),
        ("[protocol]\nepochs = { low = 1.5, high = 3 }", 2, "= 1.5 will not do: input should be a valid integer"),
        ("[protocol]\noptimizer = [\"adam\", \"adagrad\"]", 2, "= 'adagrad' will not do"),
        ("[protocol]\noptimizer = { low = 1, high = 2 }", 2, "holds no numbers: it takes a list of choices"),
        ("[protocol]\nepochs = 3", 2, "neither a list of choices nor a range"),
        ("[protocol]\nepochs = { low = 1, hi = 3 }", 2, "takes low, high and"),
        ("[protocol]\nepochs = { low = 1, high = 3, step = 0 }", 2, "takes a step above 0"),
        ("[protocol]\nepochs = [3, 3]", 2, "offers a choice twice"),
        ("[protocol]\nsynthetic_images = [60, 90]", 2, "says how metrics are measured"),
        ("[protocol]\nrefit = [true, false]", 2, "trains on the validation images that a trial is judged by"),
        ("protocol.epochs = [2]\nprotocol.epoch = [1]", 2, "no field 'epoch'"),
        ("[model]\nhead = [\"deepmedics\"]", 2, "no head is called 'deepmedics'"),
        ("[model]\nname = [\"deepmedix\"]\nhead = [\"linear\"]", 2, "name chooses whole models"),
        ("[regime]\nname = [\"fedavgg\"]", 2, "no regime is called 'fedavgg'"),
        ("[federated]\nclients = [2, 3]", 2, "federated.clients changes nothing under centralized"),
    ],
)  # fmt: skip
def test_a_bad_space_is_refused_with_its_line(tmp_path: Path, text: str, line: int, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        space(tmp_path, text)
    assert f"space.toml, line {line}: " in str(refused.value)


def test_an_empty_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"space\.toml searches nothing"):
        space(tmp_path, "# nothing\n")
    with pytest.raises(UserError, match=r"space\.toml is not valid TOML.*line 2"):
        space(tmp_path, "[protocol]\nepochs = = 3\n")


def test_the_refusal_comes_before_the_first_trial(tmp_path: Path) -> None:
    bad = tmp_path / "space.toml"
    bad.write_text("[protocol]\nlearning_rate = { low = 0, high = 1, log = true }\n")
    out = tmp_path / "run"
    arguments = ["sweep", "deepmedix", "--dataset", "phantom-brain", "--protocol", "demo", "--space", str(bad)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert isinstance(result.exception, UserError)
    assert f"{bad}, line 2: learning_rate has a log scale over zero" in str(result.exception)
    assert not out.exists()


def test_lines_are_found_in_nested_and_dotted_tables() -> None:
    text = '# a = 1\n[protocol]\n"epochs" = [1]\n\n[federated]\nclients = [\n  2,\n]\n'
    assert line_of(text, "protocol", "epochs") == 3
    assert line_of(text, "federated", "clients") == 6
    assert line_of(text, "federated") == 5
    assert line_of("protocol = { epochs = [1] }", "protocol", "epochs") == 1


@pytest.mark.parametrize(
    ("family", "regime", "name"),
    [
        ("deepmedix", "centralized", "deepmedix"),
        ("baseline", "centralized", "baseline"),
        ("combination", "centralized", "other"),
        ("deepmedix", "fedprox", "federated"),
    ],
)
def test_every_family_has_a_space_that_loads(family: str, regime: str, name: str) -> None:
    path = default_space(family, regime)
    assert path.stem == name
    assert len(load_space(path, regime).dimensions) >= 3
