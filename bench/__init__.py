"""deepmedix-bench: honest, fast benchmarking of compact medical-image classifiers.

`bench.run` and `bench.open` are the harness from Python (`bench.api`).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_OFFERED = ("Comparison", "Protocol", "Run", "Tables", "UserError", "load_protocol", "open", "run")


def __getattr__(name: str) -> Any:
    """What `bench.api` offers, loaded when it is asked for: the command line starts without it."""
    if name in _OFFERED:
        return getattr(importlib.import_module("bench.api"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
