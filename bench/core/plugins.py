"""Third-party files that register models, datasets or regimes when they are executed."""

from __future__ import annotations

import sys
import types
from importlib.util import decode_source
from pathlib import Path

from bench.core.errors import UserError
from bench.core.schema import read_bytes

PLUGINS: dict[str, str] = {}
"""The source text of every plugin file that this process executed, by its path."""


def load_plugin(path: Path) -> None:
    """Execute a Python file once; what it registers is then known by name.

    Raises:
        UserError: the file is missing, or fails when it is executed.
    """
    if path.suffix != ".py":
        raise UserError(f"--plugin {path}: there is no such Python file")
    try:
        text = decode_source(read_bytes(path, "--plugin takes a Python file"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise _failed(path, error) from error
    load_source(str(path.resolve()), text)


def load_source(path: str, text: str) -> None:
    """Execute a plugin's text, unless this process did before; the file itself may be on another machine.

    Raises:
        UserError: it fails when it is executed.
    """
    if PLUGINS.get(path) == text:
        return
    module = types.ModuleType(f"bench_plugin_{Path(path).stem}")
    module.__file__ = path
    # Dataclasses and pickle look a class's module up by its name.
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(path, error) from error
    PLUGINS[path] = text


def _failed(path: Path | str, error: BaseException) -> UserError:
    return UserError(f"--plugin {path} failed: {type(error).__name__}: {error}")
