"""One kind of lookup for models, datasets and regimes."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from bench.core.errors import UnknownName, UserError

T = TypeVar("T")
# Resolvers of these are asked in the order in which they were added.
_SIGNS = ("+", "@")


def near_matches(name: str, names: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known ones, or all of them."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"there are: {', '.join(known) or 'none'}"


def imported(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """A function, or the one that "module:function" names, imported now: so that a listing loads nothing heavy."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def import_extra(module: str, extra: str, user: str) -> ModuleType:
    """A module that only an optional dependency brings, imported now.

    Args:
        module: its dotted name.
        extra: the extra of this package that installs it.
        user: what needs it, the start of a sentence.

    Raises:
        UserError: it is not installed; the sentence has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there and lacks something itself is no missing extra.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"{user} needs the package {module.partition('.')[0]}, which is not installed: "
            f"python -m pip install 'deepmedix-bench[{extra}]'"
        ) from error


class Registry(Generic[T]):
    """Names to items, with third-party entry points and `prefix:NAME` resolvers.

    Args:
        noun: the singular word that messages use ("model").
        group: entry-point group whose objects are callables; each is called once with this registry
            at the first lookup, and registers what it brings.
        listing: the command that names every item, for messages.
        kind: the class of its items.
        classes: whether the items are classes that inherit from `kind`, not objects of it.
    """

    def __init__(
        self, noun: str, group: str | None = None, listing: str = "", kind: type = object, classes: bool = False
    ) -> None:
        self.noun = noun
        self._kind, self._classes = kind, classes
        self._listing = listing or f"bench {noun}s list"
        self._group = group
        self._items: dict[str, T] = {}
        self._resolvers: dict[str, Callable[[str], T]] = {}
        self._groups: dict[str, Callable[[str], list[str]]] = {}
        self._included: list[tuple[Registry[Any], Callable[[str, Any], T]]] = []
        self._renamed: dict[str, str] = {}
        self._loaded = group is None

    def register(self, name: str, item: T) -> T:
        """Add an item.

        Raises:
            TypeError: the item is not of the registry's kind, or the name no text.
            ValueError: the name is taken.
        """
        fits = (
            isinstance(item, type) and issubclass(item, self._kind) if self._classes else isinstance(item, self._kind)
        )
        if not isinstance(name, str) or not fits:
            wanted, given = self._kind.__name__, type(item).__name__
            raise TypeError(f"{self.noun} {name!r}: a name and a {wanted} are registered, not a {given}")
        if name in self._items:
            raise ValueError(f"{self.noun} {name!r} is registered twice")
        self._items[name] = item
        return item

    def resolver(self, prefix: str, resolve: Callable[[str], T]) -> None:
        """Let `prefix:REST` be answered by `resolve(REST)`; "@" and "+" get every whole name with that sign in it."""
        self._resolvers[prefix] = resolve

    def group(self, prefix: str, members: Callable[[str], list[str]]) -> None:
        """Let the pattern `prefix:REST` stand for the names `members(REST)`, which raises UnknownName for none."""
        self._groups[prefix] = members

    def include(self, other: Registry[Any], convert: Callable[[str, Any], T]) -> None:
        """Let every name of another registry, whenever it comes, be one here: the item is `convert(name, other's)`."""
        self._included.append((other, convert))

    def rename(self, old: str, new: str) -> None:
        """Tell whoever asks for a name of before what it is called now."""
        self._renamed[old] = new

    def names(self) -> list[str]:
        """Every registered name, in the order of registration."""
        self._load_entry_points()
        return list(self._items)

    def __contains__(self, name: str) -> bool:
        """Whether a name is registered; what a resolver would answer does not count."""
        self._load_entry_points()
        return name in self._items

    def get(self, name: str) -> T:
        """Return the item of a name.

        Raises:
            UnknownName: with near matches.
        """
        self._load_entry_points()
        if name in self._items:
            return self._items[name]
        resolved = self._resolve(name)
        if resolved is None:
            raise UnknownName(self._unknown(name))
        return resolved

    def match(self, patterns: str) -> list[str]:
        """Expand "all" or comma-separated shell patterns to names, without repeats.

        "all" leaves out the items that carry a `caution`: those are for whoever names them.

        Raises:
            UnknownName: when one of the patterns matches nothing.
        """
        self._load_entry_points()
        found: dict[str, None] = {}
        for pattern in [part.strip() for part in patterns.split(",") if part.strip()] or [""]:
            found.update(dict.fromkeys(self._match_one(pattern)))
        return list(found)

    def _match_one(self, pattern: str) -> list[str]:
        prefix, _, rest = pattern.partition(":")
        if prefix in self._groups:
            return self._groups[prefix](rest)
        if pattern == "all":
            return [name for name, item in self._items.items() if not getattr(item, "caution", "")]
        hits = [name for name in self._items if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            self.get(pattern)
            hits = [pattern]
        return hits

    def _resolve(self, name: str) -> T | None:
        for prefix, resolve in self._resolvers.items():
            if prefix in _SIGNS and prefix in name:
                return resolve(name)
            if name.startswith(f"{prefix}:"):
                return resolve(name.removeprefix(f"{prefix}:"))
        return None

    def _unknown(self, name: str) -> str:
        if name in self._renamed:
            return f"the {self.noun} {name!r} is called {self._renamed[name]!r} now"
        hint = near_matches(name, self._items)
        prefixes = "".join(f", or {prefix}:NAME" for prefix in self._resolvers if prefix not in _SIGNS)
        return f"no {self.noun} is called {name!r}; {hint} (`{self._listing}` names them all{prefixes})"

    def _load_entry_points(self) -> None:
        if not self._loaded:
            self._loaded = True
            for entry in entry_points(group=self._group or ""):
                self._load_entry_point(entry)
        for other, convert in self._included:
            for name in other.names():
                self._items.setdefault(name, convert(name, other.get(name)))

    def _load_entry_point(self, entry: EntryPoint) -> None:
        before = dict(self._items)
        try:
            entry.load()(self)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - another's code may raise anything
            # What it registered before it failed is half of something.
            self._items = before
            print(
                f"bench: the plugin {entry.name} ({entry.value}) failed and is left out: "
                f"{type(error).__name__}: {error}",
                file=sys.stderr,
            )
