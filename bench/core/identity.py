"""Identity by hashing: canonical text, digests, and seeds that depend only on what they name."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Raises TypeError for what is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**31) from the parts' text, never from a counter or from the order of a run."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
