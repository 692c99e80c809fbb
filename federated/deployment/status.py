"""What a deployment's run folder tells of its course."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from bench.core.schema import read_json


@with_config(ConfigDict(extra="allow"))
class StatusFile(TypedDict):
    """status.json; the privacy accountant counts by `begun`, so a damaged file is never taken for a new run."""

    round: Annotated[int, Field(ge=0)]
    done: bool
    begun: Annotated[int, Field(ge=0)]
    history: list[dict[str, Any]]
    notes: list[str]


def read_status(path: Path) -> StatusFile:
    """A deployment's status. Raises UserError when it is damaged."""
    return read_json(path, StatusFile, "restore it from a copy, or name a new --out")
