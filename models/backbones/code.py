"""Which code a backbone is made of, so that what was computed with other code is not taken for its work."""

from __future__ import annotations

import functools
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bench.core.identity import digest
from bench.core.plugins import PLUGINS

LIBRARIES = ("torch", "torchvision", "timm")
_OWN = ("bench", "models", "federated", "sweeps", "reports")
_STANDARD = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def code_of(backbone: nn.Module, build: Callable[[], nn.Module]) -> str:
    """A digest that changes with the code that builds and computes a backbone.

    It covers its structure (`repr`), the source of the modules that `build` and the classes of its layers come from, a
    plugin's as it was executed, and of whatever these take from files that are not installed packages; of torch,
    torchvision and timm the version. What code reads from elsewhere (data files, the environment) it cannot see.
    """
    names = {_origin(build), *(type(layer).__module__ for layer in backbone.modules())}
    modules: dict[str, ModuleType] = {}
    for name in names:
        _collect(name, modules)
    sources = {name: _source(module) for name, module in modules.items()}
    # Addresses of functions, which some layers have in their text, differ from process to process.
    structure = re.sub(r"0x[0-9a-f]+", "", repr(backbone))
    return digest({"structure": structure, "sources": sources}, length=24)


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of packages."""
    return {name: version(name) for name in packages}


def _origin(build: Any) -> str:
    while isinstance(build, functools.partial):
        build = build.func
    name: str = getattr(build, "__module__", None) or type(build).__module__
    return name


def _collect(name: str, found: dict[str, ModuleType]) -> None:
    """Add a module, and those that it has names from, as far as they are a user's own files."""
    module = sys.modules.get(name)
    if module is None or name in found:
        return
    found[name] = module
    if _top(name) in (*LIBRARIES, *_OWN) or not _is_users(module):
        return
    for other in _named_in(module):
        if other in sys.modules and _is_users(sys.modules[other]):
            _collect(other, found)


def _named_in(module: ModuleType) -> Iterator[str]:
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(name := getattr(value, "__module__", None), str):
            yield name


def _is_users(module: ModuleType) -> bool:
    """Whether a module is a file outside the installed packages, the standard library and this project."""
    file = getattr(module, "__file__", None) or ""
    installed = file.startswith(_STANDARD) or not _INSTALLED.isdisjoint(Path(file).parts)
    return bool(file) and not installed and _top(module.__name__) not in _OWN


def _source(module: ModuleType) -> str:
    top = _top(module.__name__)
    if top in LIBRARIES:
        return version(top)
    file = getattr(module, "__file__", None) or ""
    if file in PLUGINS:
        return digest(PLUGINS[file])
    return digest(Path(file).read_bytes().hex()) if Path(file).is_file() else "no source"


def _top(name: str) -> str:
    return name.partition(".")[0]
