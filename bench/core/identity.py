"""Identity by hashing: canonical text, digests, and seeds that depend only on what they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises TypeError for what is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def without_defaults(values: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was added later and stands at its default, so that it changes no digest of the time before it.

    Args:
        values: nested dictionaries of JSON values.
        added: dotted names of later fields ("protocol.federated.name"), each with the value at which it is left out.

    Returns:
        A copy; what is not named in `added` stays, whatever its value.
    """
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name in added and canonical(value) == canonical(added[name]):
            continue
        inner = {key.removeprefix(f"{name}."): default for key, default in added.items() if key.startswith(f"{name}.")}
        kept[name] = without_defaults(value, inner) if inner and isinstance(value, dict) else value
    return kept


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) from the parts' text, never from a counter or from the order of a run."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
