"""Flower's own programs: where they are, their environment, what they answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import federated
from bench.core.errors import UserError
from bench.core.schema import parsed_json
from federated.deployment.consortium import Consortium, Site, write_connection


def environment(owner: Consortium | Site) -> dict[str, str]:
    """The programs' environment: no telemetry, Flower's own folder inside the owner's, this package importable."""
    home = owner.home if isinstance(owner, Consortium) else owner.folder / "flower"
    home.mkdir(parents=True, exist_ok=True)
    if isinstance(owner, Consortium):
        write_connection(owner)
    package = str(Path(federated.__file__).parent.parent)
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    own = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_HOME": str(home)}
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **own, "PYTHONPATH": path, "PATH": programs}


def flwr(made: Consortium, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Flower's command line against a consortium's server, to its end."""
    command = [program("flwr"), *arguments]
    return subprocess.run(command, env=environment(made), capture_output=True, text=True, timeout=120, check=False)


def program(name: str) -> str:
    """Flower's program beside this Python. Raises UserError when it is not there."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise UserError(f"{name} is not installed beside {sys.executable}; pip install 'flwr>=1.41,<1.43'")
    return str(path)


def json_in(text: str) -> dict[str, Any]:
    """The JSON object in a program's output, which may say more around it."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return {}
    try:
        return parsed_json("a program's output", text[start : end + 1], dict[str, Any], "look at its log")
    except UserError:
        return {}


def last_line(text: str) -> str:
    """The last words of a program."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
