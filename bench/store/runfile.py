"""A whole run as one TOML file: what `bench run --config` takes, and what each run writes to repeat it.

models = ["deepmedix*", "resnet18"]
datasets = "figshare-brain"
regimes = "centralized"
seeds = 3
out = "runs/mine"

[protocol]
base = "demo"
epochs = 10
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from bench.core.atomic import write_text
from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.core.registry import near_matches
from bench.core.schema import read_toml
from bench.store.layout import RUN_FILE

Names = str | list[str]
_MEND = "a run's file holds models, datasets, regimes, seeds, split, out and so on, and a table [protocol]"
# What `bench run` calls otherwise.
_OPTIONS = {"with": "analyses"}


@with_config(ConfigDict(extra="allow"))
class RunFile(TypedDict, total=False):
    """A run's file; every key is an option of `bench run`."""

    models: Names
    datasets: Names
    regimes: Names
    seeds: int | str | list[int]
    split: str
    weights: str
    out: str
    protocol: str | dict[str, Any]


def read_run_file(path: Path, options: frozenset[str]) -> dict[str, Any]:
    """A run's file as values of the command's options.

    Args:
        path: the TOML file.
        options: the names of the options that it may set.

    Raises:
        UserError: unreadable, an unknown key, or a value that no option takes.
    """
    stored = read_toml(path, RunFile, _MEND)
    found: dict[str, Any] = {}
    for name, value in stored.items():
        option = _OPTIONS.get(name, name)
        if option not in options:
            raise UserError(f"{path}: `bench run` has no option {name!r}; {near_matches(name, sorted(options))}")
        found[option] = _as_option(path, name, value)
    protocol = stored.get("protocol")
    if isinstance(protocol, dict):
        fields = dict(protocol)
        found["protocol"] = str(fields.pop("base", "paper"))
        found["overrides"] = _overrides(fields)
    return found


def _as_option(path: Path, name: str, value: object) -> Any:
    """A list becomes the text that the command line takes; `seeds = [3]` is seed 3 alone, as `--seeds 3,` is."""
    if isinstance(value, list):
        if not value or not all(isinstance(part, (str, int)) for part in value):
            raise UserError(f"{path}: {name} takes a text or a list of names, not {value!r}")
        return ",".join(map(str, value)) + ("," if name == "seeds" else "")
    return str(value) if name == "seeds" else value


def _overrides(fields: Mapping[str, Any], table: str = "") -> list[str]:
    """Fields of a protocol as `--set` takes them, those of inner tables dotted."""
    found = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += _overrides(value, f"{table}{name}.")
        else:
            found.append(f"{table}{name}={_toml(value)}")
    return found


def _toml(value: object) -> str:
    import tomli_w

    return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()


def write_run_file(run: Path, asked: Mapping[str, Any], protocol: Protocol) -> None:
    """Write the file that repeats the latest command of a run.

    Args:
        run: the run's folder.
        asked: the command's other options by key of the file.
        protocol: the settings in full, so that a preset that changes later changes nothing.
    """
    import tomli_w

    about = "# `bench run --config` with this file repeats the latest command of this run; --out names the folder.\n"
    fields = protocol.model_dump(mode="json", exclude_none=True)
    write_text(run / RUN_FILE, about + tomli_w.dumps({**asked, "protocol": {"base": "paper", **fields}}))
