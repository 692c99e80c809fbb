"""Third-party files that register models, datasets or regimes when they are executed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bench.core.errors import UserError


def load_plugin(path: Path) -> None:
    """Execute a Python file once; what it registers is then known by name.

    Raises:
        UserError: the file is missing, or fails when it is executed.
    """
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--plugin {path}: there is no such Python file")
    spec = importlib.util.spec_from_file_location(f"bench_plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise UserError(f"--plugin {path} failed: {type(error).__name__}: {error}") from error
