"""Which images show the same picture: equal pixels, or the same picture re-encoded, resized, mirrored or brightened.

Two steps. First a perceptual hash: the gray image reduced to 16 x 16, freed of its mean and scale. Pairs whose hashes
correlate above `CANDIDATE`, in any of the eight orientations of a square, are candidates; neighbouring slices of one
patient pass this step. Then the pixels: at 64 x 64, with everything smoother than `SMOOTH` pixels removed, what is
left is fine anatomy. The same picture keeps it (correlation of `SAME` or more), another slice does not. A picture
that has little fine structure, such as smooth skin, cannot correlate that well once JPEG has been over it: it counts
as the same when what does not agree is no more than such noise (`NOISE` gray levels), the fine correlation is still
`ALIKE`, and the next coarser structure, at 32 x 32, agrees to `COARSE`. The thresholds were set on real sets;
`docs/audit.md` has the measurements.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.images.cache import in_threads, resized
from bench.data.table import Pixels, Table

SIDE = 64
HASH_SIDE = 16
CANDIDATE = 0.95
SMOOTH = 2.0
SAME = 0.96
ALIKE = 0.7
NOISE = 3.0
COARSE_SIDE = 32
COARSE_SMOOTH = 3.0
COARSE = 0.97
_BLOCK = 1024
_GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Signatures:
    """What the comparison needs of N images.

    Attributes:
        pixels: a digest of the decoded pixels, gray stored as colour counted as gray [N].
        hashes: unit-norm perceptual hashes, float32 [N, 256].
        details: fine structure in gray levels, mean zero, float16 [N, 4096].
        coarse: the structure that is next to it, float16 [N, 1024].
        sides: the shorter side, pixels [N].
    """

    pixels: NDArray[np.str_]
    hashes: Floats
    details: NDArray[np.float16]
    coarse: NDArray[np.float16]
    sides: NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """Two images that show the same picture.

    Attributes:
        kind: "exact" for equal pixels, else "near".
        orientation: 0 as it is; 4 ... 7 mirrored; odd numbers turned by a quarter, 2 and 6 by a half.
        agreement: correlation of the fine structure.
        residual: what does not agree, gray levels.
    """

    left: int
    right: int
    kind: str
    orientation: int
    agreement: float
    residual: float


def signatures(
    table: Table, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> Signatures:
    """Decode every image of a table once and keep what the comparison needs.

    Args:
        progress: called with (images done, images in all).
        workers: threads that decode; None: one a core.
    """
    blocks = [range(start, min(start + _BLOCK // 8, len(table))) for start in range(0, len(table), _BLOCK // 8)]
    parts: list[Signatures] = []
    found = in_threads(lambda rows: _signatures_of(table, rows), blocks, workers or os.cpu_count() or 1)
    for block, part in zip(blocks, found, strict=True):
        parts.append(part)
        if progress:
            progress(block.stop, len(table))
    columns = ("pixels", "hashes", "details", "coarse", "sides")
    return Signatures(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns})


def _signatures_of(table: Table, rows: range) -> Signatures:
    images = [table.images.read(row) for row in rows]
    small = np.stack([gray(resized(image, SIDE)) for image in images])
    return Signatures(
        np.array([_pixel_digest(image) for image in images]),
        perceptual_hash(small),
        details(small, SMOOTH).astype(np.float16),
        details(_reduced(small, COARSE_SIDE), COARSE_SMOOTH).astype(np.float16),
        np.array([min(image.shape[:2]) for image in images], dtype=np.int64),
    )


def _pixel_digest(image: Pixels) -> str:
    if image.ndim == 3 and (image == image[:, :, :1]).all():
        image = image[:, :, 0]
    hasher = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(image).tobytes())
    return hasher.hexdigest()


def gray(image: Pixels) -> Floats:
    """Luma of an RGB image [H, W, 3], float32 [H, W] in 0 ... 255."""
    luma: Floats = image.astype(np.float32) @ _GRAY
    return luma


def perceptual_hash(small: Floats) -> Floats:
    """Hashes [N, 256] of gray images [N, 64, 64]: unit norm, mean zero; all zero for a flat image."""
    cells = _reduced(small, HASH_SIDE).reshape(len(small), -1)
    return _unit(cells - cells.mean(axis=1, keepdims=True))


def _reduced(small: Floats, side: int) -> Floats:
    """Square gray images as means over cells, [N, side, side]."""
    step = small.shape[1] // side
    cells: Floats = small.reshape(len(small), side, step, side, step).mean(axis=(2, 4))
    return cells


def details(small: Floats, smooth: float) -> Floats:
    """Gray images [N, S, S] without what is smoother than `smooth` pixels, mean zero, [N, S * S]."""
    from scipy.ndimage import gaussian_filter

    fine = (small - gaussian_filter(small, (0, smooth, smooth))).reshape(len(small), -1)
    centred: Floats = fine - fine.mean(axis=1, keepdims=True)
    return centred


def _unit(vectors: Floats) -> Floats:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A flat image has no direction: below half a gray level a cell, what is left is rounding.
    return np.where(norm > 0.5 * HASH_SIDE, vectors / np.maximum(norm, 1e-6), 0).astype(np.float32)


def same_pictures(left: Signatures, right: Signatures | None = None) -> list[Match]:
    """The pairs that show the same picture, within one set or between two.

    Within a set of equal pictures each one is paired with the first; near pairs are all listed.
    """
    other = right if right is not None else left
    best: dict[tuple[int, int], Match] = {}
    for match in _near(left, other, within=right is None):
        pair = (match.left, match.right)
        if left.pixels[match.left] == other.pixels[match.right]:
            continue
        if pair not in best or best[pair].agreement < match.agreement:
            best[pair] = match
    return _equal_pixels(left, right) + list(best.values())


def _equal_pixels(left: Signatures, right: Signatures | None) -> list[Match]:
    first: dict[str, int] = {}
    for row, digest in enumerate(left.pixels):
        first.setdefault(str(digest), row)
    others = left.pixels if right is None else right.pixels
    pairs = [(first[str(digest)], row) for row, digest in enumerate(others) if str(digest) in first]
    return [Match(a, b, "exact", 0, 1.0, 0.0) for a, b in pairs if right is not None or a != b]


def _near(left: Signatures, right: Signatures, within: bool) -> Iterator[Match]:
    for orientation in range(8):
        turned = right.hashes[:, _order(HASH_SIDE, orientation)]
        for start in range(0, len(left.hashes), _BLOCK):
            # Within one set, each pair is looked at once: the partner stands further down.
            skip = start if within else 0
            likeness = left.hashes[start : start + _BLOCK] @ turned[skip:].T
            rows, columns = np.nonzero(likeness > CANDIDATE)
            rows, columns = rows + start, columns + skip
            keep = rows < columns if within else np.ones(len(rows), dtype=bool)
            yield from _verified(left, right, rows[keep], columns[keep], orientation)


def _verified(
    left: Signatures, right: Signatures, rows: NDArray[np.int64], columns: NDArray[np.int64], orientation: int
) -> Iterator[Match]:
    order, coarse_order = _order(SIDE, orientation), _order(COARSE_SIDE, orientation)
    for start in range(0, len(rows), _BLOCK):
        a, b = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        agreement, residual = compared(left.details[a], right.details[b][:, order])
        coarse, _ = compared(left.coarse[a], right.coarse[b][:, coarse_order])
        for hit in np.flatnonzero(_is_same(agreement, residual, coarse)):
            pair = (int(a[hit]), int(b[hit]))
            yield Match(*pair, "near", orientation, float(agreement[hit]), float(residual[hit]))


def compared(left: NDArray[Any], right: NDArray[Any]) -> tuple[Floats, Floats]:
    """Correlation of fine structures [N, D], and the root mean square of what does not agree in the fainter one."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    power_a, power_b, both = (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)
    agreement = both / np.sqrt(np.maximum(power_a * power_b, 1e-12))
    unexplained = np.maximum(1 - agreement**2, 0) * np.minimum(power_a, power_b) / a.shape[1]
    return agreement, np.sqrt(unexplained)


def _is_same(agreement: Floats, residual: Floats, coarse: Floats) -> NDArray[np.bool_]:
    noisy = (agreement >= ALIKE) & (residual <= NOISE) & (coarse >= COARSE)
    verdict: NDArray[np.bool_] = (agreement >= SAME) | noisy
    return verdict


def _order(side: int, orientation: int) -> NDArray[np.int64]:
    """The order of pixels that turns (and from 4 on mirrors) a flattened square."""
    grid = np.arange(side * side).reshape(side, side)
    mirrored = grid[:, ::-1] if orientation >= 4 else grid
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4)).ravel()
