"""A search space: a TOML file over protocol, federated, model and regime fields, checked before anything runs.

[protocol]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = [16, 32, 64]
[federated]
local_epochs = { low = 1, high = 4 }
[model]
head = ["deepmedix", "deepmedix-wide"]      # also backbone, or name for whole models
[regime]
name = ["fedavg", "fedprox"]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from bench.core.cellspec import CENTRALIZED
from bench.core.config import Federation, Protocol
from bench.core.errors import UserError
from bench.core.registry import Registry, near_matches
from bench.core.schema import read_toml
from bench.harness.regimes import REGIMES

# They make other images, or measure in another way: no two of their values can be compared.
_MEASURING = "says how metrics are measured, so it cannot be searched"
_FIXED = {
    **dict.fromkeys(
        ("synthetic_images", "bootstrap_resamples", "timing_batches", "timing_warmup", "timing_batch_size"), _MEASURING
    ),
    "refit": "trains on the validation images that a trial is judged by, so it cannot be searched: "
    "set it in the base protocol, and the chosen protocol is refitted",
}
_FIELDS: dict[str, list[str]] = {
    "protocol": [name for name in Protocol.model_fields if name not in (*_FIXED, "federated")],
    "federated": list(Federation.model_fields),
    "model": ["name", "head", "backbone"],
    "regime": ["name"],
}
_RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole ones where the field counts something."""

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Dimension:
    """A field that is searched: "learning_rate", "federated.local_epochs", "model.head" or "regime.name"."""

    name: str
    domain: Range | Choice


@dataclass(frozen=True)
class Space:
    """The fields that are searched, in the file's order."""

    source: str
    dimensions: tuple[Dimension, ...]

    def as_dict(self) -> dict[str, Any]:
        """The dimensions as JSON values: {"low", "high", "log", "step"} or {"choices"}."""
        return {one.name: _as_dict(one.domain) for one in self.dimensions}


def _as_dict(domain: Range | Choice) -> dict[str, Any]:
    if isinstance(domain, Choice):
        return {"choices": list(domain.values)}
    return {"low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step}


def default_space(family: str, regime: str) -> Path:
    """The file of a model family's own space, or of the federated regimes'."""
    folder = Path(str(files("sweeps"))) / "spaces"
    own = folder / f"{family if regime == CENTRALIZED else 'federated'}.toml"
    return own if own.is_file() else folder / "other.toml"


def load_space(path: Path, regime: str) -> Space:
    """Read a space.

    Args:
        regime: the sweep's; federated fields need a federated one.

    Raises:
        UserError: naming the file and the line: an unknown field, an empty range, a log scale over zero, a value that
            the field does not take.
    """
    tables = read_toml(path, dict[str, dict[str, Any]], "a space has tables such as [protocol] with fields in them")
    complain = _Complaint(path)
    dimensions = [
        Dimension(_full_name(table, field), _domain(table, field, given, complain))
        for table, fields in tables.items()
        for field, given in _fields(table, fields, complain).items()
    ]
    if not dimensions:
        raise UserError(f"{path} searches nothing: it needs a table such as [protocol] with at least one field")
    _check_use(tables, regime, complain)
    return Space(str(path), tuple(dimensions))


@dataclass(frozen=True)
class _Complaint:
    path: Path

    def __call__(self, table: str, field: str, sentence: str) -> UserError:
        line = line_of(self.path.read_text(), table, field)
        return UserError(f"{self.path}, line {line}: {sentence}")


def line_of(text: str, table: str, field: str = "") -> int:
    """The line, from 1, on which a field of a TOML file is set, or else the nearest table around it.

    Args:
        text: of the file.
        table: the table's name.
        field: the field's name.
    """
    wanted = f"{table}.{field}" if field else table
    current, best, found = "", 1, -1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]=]+)\]", line)
        assigned = re.match(r"\s*([\w.\"' -]+?)\s*=", line)
        if header:
            current = _bare(header.group(1))
        name = ".".join(part for part in (current, _bare(assigned.group(1)) if assigned and not header else "") if part)
        if (header or assigned) and _covers(name, wanted) and len(name) > found:
            best, found = number, len(name)
    return best


def _bare(name: str) -> str:
    return re.sub(r"[\"'\s]", "", name)


def _covers(name: str, wanted: str) -> bool:
    return name == wanted or wanted.startswith(f"{name}.")


def _full_name(table: str, field: str) -> str:
    return field if table == "protocol" else f"{table}.{field}"


def _fields(table: str, fields: Any, complain: _Complaint) -> dict[str, Any]:
    if table not in _FIELDS:
        raise complain(table, "", f"no table is called {table!r}; {near_matches(table, _FIELDS)}")
    if not isinstance(fields, dict):
        raise complain(table, "", f"{table} must be a table, written [{table}]")
    for field in fields:
        if table == "protocol" and field in _FIXED:
            raise complain(table, field, f"{field} {_FIXED[field]}")
        if field not in _FIELDS[table]:
            raise complain(
                table, field, f"{table} has no field {field!r} to search; {near_matches(field, _FIELDS[table])}"
            )
    return fields


def _domain(table: str, field: str, given: Any, complain: _Complaint) -> Range | Choice:
    def refuse(sentence: str) -> UserError:
        return complain(table, field, f"{field} {sentence}")

    if isinstance(given, list):
        return _choice(table, field, given, refuse)
    if isinstance(given, dict):
        return _range(table, field, given, refuse)
    raise refuse(f"= {given!r} is neither a list of choices nor a range such as {{ low = 1, high = 5 }}")


def _choice(table: str, field: str, given: list[Any], refuse: Callable[[str], UserError]) -> Choice:
    if not given:
        raise refuse("has an empty range: the list holds no choice")
    for value in given:
        if not isinstance(value, (str, int, float, bool)):
            raise refuse(f"offers {value!r}, which is no plain value")
        _check_value(table, field, value, refuse)
    if len(set(map(repr, given))) < len(given):
        raise refuse("offers a choice twice")
    return Choice(tuple(given))


def _range(table: str, field: str, given: dict[str, Any], refuse: Callable[[str], UserError]) -> Range:
    unknown = sorted(given.keys() - _RANGE)
    if unknown or not {"low", "high"} <= given.keys():
        raise refuse(f"takes low, high and, if wanted, log or step; it has {', '.join(given) or 'nothing'}")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not all(_is_number(value) for value in (low, high)) or not isinstance(log, bool):
        raise refuse("takes numbers for low and high, and true or false for log")
    if not low < high:
        raise refuse(f"has an empty range: {low=} is not below {high=}")
    if log and low <= 0:
        raise refuse(f"has a log scale over zero: {low=} must be above 0")
    if step is not None and (not _is_number(step) or step <= 0 or log):
        raise refuse("takes a step above 0, and none on a log scale")
    whole = _counts(table, field, refuse)
    for value in (low, high):
        _check_value(table, field, value, refuse)
    return Range(low, high, log, step, whole)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts(table: str, field: str, refuse: Callable[[str], UserError]) -> bool:
    """Whether a field holds whole numbers; refuses one that holds none."""
    kinds: set[Any] = {str}
    if table in ("protocol", "federated"):
        model = Protocol if table == "protocol" else Federation
        annotation = model.model_fields[field].annotation
        kinds = set(get_args(annotation) or (annotation,))
    if not kinds & {int, float}:
        raise refuse("holds no numbers: it takes a list of choices, not a range")
    return int in kinds


def _check_value(table: str, field: str, value: Any, refuse: Callable[[str], UserError]) -> None:
    try:
        if table == "protocol":
            Protocol.model_validate({field: value})
        elif table == "federated":
            Federation.model_validate({field: value})
        elif table == "regime":
            REGIMES.get(str(value))
        else:
            _check_model(field, str(value))
    except ValidationError as error:
        raise refuse(f"= {value!r} will not do: {error.errors()[0]['msg'].lower()}") from error
    except UserError as error:
        raise refuse(f"= {value!r} will not do: {error}") from error


def _check_model(field: str, name: str) -> None:
    from models.backbones.registry import BACKBONES
    from models.registry import HEADS, MODELS

    registries: dict[str, Registry[Any]] = {"name": MODELS, "head": HEADS, "backbone": BACKBONES}
    registries[field].get(name)


def _check_use(tables: dict[str, Any], regime: str, complain: _Complaint) -> None:
    """Refuse fields that would change nothing."""
    regimes = tables.get("regime", {}).get("name", [regime])
    if tables.get("federated") and all(name == CENTRALIZED for name in regimes):
        field = next(iter(tables["federated"]))
        raise complain(
            "federated", field, f"federated.{field} changes nothing under {CENTRALIZED}; name a --regime that uses it"
        )
    searched = tables.get("model", {})
    if "name" in searched and len(searched) > 1:
        raise complain("model", "name", "name chooses whole models; search it, or head and backbone")
