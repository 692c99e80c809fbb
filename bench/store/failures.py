"""The record of what went wrong in a cell or in an analysis of it."""

from __future__ import annotations

import traceback
from typing import Any

from bench.core.errors import UserError
from bench.store.files import now


def failure_of(key: str, spec: dict[str, Any], error: BaseException) -> dict[str, Any]:
    """The record of a failed cell.

    Args:
        key: of the cell.
        spec: its fields as JSON values.
        error: what its fit raised.
    """
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    told = "".join(traceback.format_exception(error))
    return failure_record(key, spec, f"{kind}{str(error).strip() or 'no message'}", told)


def failure_record(key: str, spec: dict[str, Any], error: str, told: str = "") -> dict[str, Any]:
    """A failure as it is stored; `told` is the traceback, where there is one.

    Args:
        key: of the cell.
        spec: its fields as JSON values.
        error: type and message in a line.
    """
    return {"key": key, "cell": spec, "error": error, "traceback": told, "when": now()}
