"""From a trial's values to a cell: which model, under which regime, by which protocol; and back to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bench.core.config import Protocol
from bench.core.errors import UserError
from models.registry import HEADS, MODELS


@dataclass(frozen=True)
class Target:
    """What a trial fits."""

    model: str
    regime: str
    protocol: Protocol


def settle(base: Target, params: Mapping[str, Any]) -> Target:
    """The base with a trial's values put in.

    Raises:
        UserError: the values do not go together.
    """
    protocol = base.protocol.model_dump()
    for name, value in params.items():
        table, _, field = name.rpartition(".")
        if not table:
            protocol[field] = value
        elif table == "federated":
            protocol["federated"][field] = value
    try:
        settled = Protocol.model_validate(protocol)
    except ValidationError as error:
        raise UserError(f"the values {dict(params)} make no protocol: {error.errors()[0]['msg']}") from error
    return Target(_model(base.model, params), params.get("regime.name", base.regime), settled)


def _model(base: str, params: Mapping[str, Any]) -> str:
    if "model.name" in params:
        return str(params["model.name"])
    if not {"model.head", "model.backbone"} & params.keys():
        return base
    head = str(params.get("model.head", _head_of(base)))
    backbone = str(params.get("model.backbone", MODELS.get(base).backbone))
    return _known_as(head, backbone)


def _head_of(model: str) -> str:
    if "@" in model:
        return model.partition("@")[0]
    return model if model in HEADS.names() else "linear"


def _known_as(head: str, backbone: str) -> str:
    """A registered model's own name where the pair is one, so that its cells are the ones that other runs have."""
    for name in (head, backbone):
        if name in MODELS.names():
            spec = MODELS.get(name)
            if (spec.backbone, spec.head) == (backbone, HEADS.get(head)):
                return name
    return f"{head}@{backbone}"


def protocol_toml(protocol: Protocol, about: str) -> str:
    """A protocol as the file that `bench run --protocol` takes.

    Args:
        about: said in comments at the top.
    """
    fields = protocol.model_dump(mode="json", exclude_none=True)
    federated = fields.pop("federated")
    lines = [f"# {line}" for line in about.splitlines()]
    lines += [_line(name, value) for name, value in fields.items()]
    lines += ["", "[federated]", *(_line(name, value) for name, value in federated.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, value: object) -> str:
    # JSON's strings, whole numbers and booleans are TOML's; Python writes a float as TOML reads it.
    return f"{name} = {value!r}" if isinstance(value, float) else f"{name} = {json.dumps(value, ensure_ascii=False)}"
