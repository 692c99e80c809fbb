"""Using a thing without handing it on: no attribute, container or closure leads from the holder to what it holds.

This keeps a plugin from reading by accident, or out of curiosity, what it was not handed. It is no sandbox: code in the
same process can import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

_HELD: WeakKeyDictionary[object, Any] = WeakKeyDictionary()


def hold(holder: object, thing: Any) -> None:
    """Keep a thing for as long as its holder lives; the holder is compared by identity and can be referenced weakly."""
    _HELD[holder] = thing


def held(holder: object) -> Any:
    """What a holder holds. Raises KeyError for what holds nothing."""
    return _HELD[holder]


class Sealed:
    """A function that can be called and not be looked into.

    Args:
        function: a closure or a bound method that reaches more than who calls it should see.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, function: Callable[..., Any]) -> None:
        hold(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return held(self)(*arguments)
