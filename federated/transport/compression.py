"""Smaller updates on the wire: float16, int8 with stochastic rounding, top-k with error feedback.

Each takes the vector a client would like to send and the round's vector that both ends know, and gives named arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError

Vector = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
KINDS = ("none", "float16", "int8", "topk")
_BLOCK = 2048  # numbers that share one scale: layers differ in size by orders of magnitude


def encode(
    kind: str, target: Vector, known: Vector, *, ratio: float = 1.0, random: np.random.Generator
) -> tuple[Arrays, Vector]:
    """Encode `target` [P] for a receiver that has `known` [P].

    Args:
        kind: none, float16, int8 or topk.
        target: what is sent [P].
        known: what the receiver has [P].
        ratio: share of the numbers that top-k sends, 0 < ratio <= 1.
        random: stochastic rounding's stream.

    Returns:
        The arrays to send, and what they lose: target - decode(...) [P], zero where nothing is lost.
    """
    if kind == "none":
        return {"weights": target}, np.zeros(0, np.float32)
    if kind == "topk":
        return _top_k(target, known, ratio)
    if kind == "float16":
        arrays: Arrays = {"half": (target - known).astype(np.float16)}
    elif kind == "int8":
        arrays = _int8(target - known, random)
    else:
        raise UserError(f"no compression is called {kind!r}; there are {', '.join(KINDS)}")
    return arrays, target - decode(arrays, known)


def decode(arrays: Arrays, known: Vector) -> Vector:
    """Read what `encode` wrote: float32 [P]. Raises ValueError for arrays of no known encoding."""
    if "weights" in arrays:
        return np.asarray(arrays["weights"], np.float32)
    if "half" in arrays:
        return known + arrays["half"].astype(np.float32)
    if "levels" in arrays:
        scales = np.repeat(arrays["scales"], _BLOCK)[: len(known)]
        change: Vector = arrays["levels"].astype(np.float32) * scales
        return known + change
    if "positions" in arrays:
        result = known.copy()
        result[arrays["positions"]] = arrays["values"]
        return result
    raise ValueError(f"an update with the arrays {sorted(arrays)} has no known encoding")


def _top_k(target: Vector, known: Vector, ratio: float) -> tuple[Arrays, Vector]:
    """Send the numbers that moved most, as their new values: with every number sent the receiver has the exact bits."""
    change = target - known
    count = max(1, math.ceil(ratio * len(target)))
    largest = np.argpartition(np.abs(change), len(change) - count)[len(change) - count :]
    positions = np.sort(largest).astype(np.uint32)
    lost = change.copy()
    lost[positions] = 0
    return {"positions": positions, "values": target[positions]}, lost


def _int8(change: Vector, random: np.random.Generator) -> Arrays:
    padded = np.zeros(math.ceil(len(change) / _BLOCK) * _BLOCK, np.float32)
    padded[: len(change)] = change
    blocks = padded.reshape(-1, _BLOCK)
    scales = (np.abs(blocks).max(axis=1) / 127).astype(np.float32)
    scaled = np.divide(blocks, scales[:, None], out=np.zeros_like(blocks), where=scales[:, None] > 0)
    # floor(x + u) with u uniform is x on average: the error has no direction, and clients' errors cancel.
    levels = np.floor(scaled + random.random(scaled.shape, dtype=np.float32))
    return {"levels": np.clip(levels, -127, 127).astype(np.int8).ravel()[: len(change)], "scales": scales}
