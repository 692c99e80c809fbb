"""Command lines: any command of the program, with words where names, numbers and files are expected."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

from tests.fuzz.generators.nonsense import Invocation, Small, harmed, linked_copy, odd, word

# They start servers, download, or do a day's work where their words happen to mean something.
_NEVER = {("fed", "server"), ("fed", "site"), ("fed", "run"), ("data", "fetch")}
_HARMLESS = {
    ("run",): ["--dry-run"], ("reproduce",): ["--dry-run"], ("profile",): ["--timing", "off"],
    ("sweep",): ["--dataset", "nowhere"], ("analyze",): ["--with", "calibration"],
}  # fmt: skip
# All of something takes minutes, and is no nonsense.
_WIDE = {"all", "*", "", "*" * 50, "?", " ", "+", "@", ":"}


@functools.cache
def _commands() -> dict[tuple[str, ...], Any]:
    """Every command by its words."""
    from typer.main import get_command

    import bench.cli.app as program

    top: Any = program.app if hasattr(program.app, "commands") else get_command(program.app)
    found: dict[tuple[str, ...], Any] = {}
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        found |= {(name, each): one for each, one in inner.items()} if inner else {(name,): command}
    return {words: command for words, command in found.items() if words not in _NEVER}


def command_line(random: random.Random, folder: Path, small: Small) -> Invocation:
    """A command with some of its options, in which words stand for whatever they take."""
    words = random.choice(sorted(_commands()))
    command = _commands()[words]
    line = [*words, *_HARMLESS.get(words, [])]
    for parameter in command.params:
        if (
            parameter.name in ("help", "dry_run", "wandb", "timing", "executor", "address")
            or "--dataset" in parameter.opts
        ):
            continue
        needed = parameter.param_type_name == "argument" or parameter.required
        if needed or random.random() < 0.15:
            line += _given(random, words, parameter, folder, small)
    if random.random() < 0.1:
        line.insert(random.randrange(1, len(line) + 1), word(random))
    return Invocation(line, (0, 1, 2))


def _given(random: random.Random, words: tuple[str, ...], parameter: Any, folder: Path, small: Small) -> list[str]:
    if getattr(parameter, "is_flag", False):
        return [parameter.opts[0]]
    value = _value(random, words, parameter, folder, small)
    return [value] if parameter.param_type_name == "argument" else [random.choice(parameter.opts), value]


def _value(random: random.Random, words: tuple[str, ...], parameter: Any, folder: Path, small: Small) -> str:
    if parameter.name in ("out", "sheet", "html", "csv", "best", "junit", "markdown", "storage"):
        return random.choice([str(folder / "made"), str(folder / "a" / "b"), word(random), str(_odd(random, folder))])
    if parameter.name in ("run", "runs", "folder", "cell") and random.random() < 0.4:
        copy = folder / "copied"
        return str(copy if copy.exists() else linked_copy(small.run, copy))
    if parameter.name == "plugin" or (parameter.name in ("path", "baseline", "margins", "space", "images", "data")
                                      and random.random() < 0.5):  # fmt: skip
        return str(
            _file(random, folder, ".py" if parameter.name == "plugin" else random.choice([".toml", ".json", ""]))
        )
    if parameter.name in ("models", "names", "analyses", "model", "against") or words in (
        ("data", "prepare"),
        ("data", "audit"),
    ):
        return _narrow(random)
    return word(random)


def _narrow(random: random.Random) -> str:
    while (found := word(random)) in _WIDE or "phantom" in found or "*" in found or "?" in found:
        pass
    return found


def _odd(random: random.Random, folder: Path) -> Path:
    path = folder / "odd"
    odd(random, path) if not path.exists() and not path.is_symlink() else None
    return random.choice([path, path / "below"])


def _file(random: random.Random, folder: Path, suffix: str) -> Path:
    path = folder / f"given{suffix}"
    texts = ["a = 1", "{}", "import sys; sys.exit(0)", "1/0", "x = (", "\0", "[a]\nb = 2",
             "from bench.data.registry import DATASETS\nDATASETS.register('x', 1)", "raise BaseException('a\\nb')",
             "import os; os.chdir('/')", "from models.registry import MODELS\nMODELS.register(1, None)"]  # fmt: skip
    if random.random() < 0.2 and not path.exists():
        odd(random, path)
    if not path.exists() and not path.is_symlink():
        text = random.choice(texts).encode()
        path.write_bytes(text if random.random() < 0.8 else harmed(random, text))
    return path
