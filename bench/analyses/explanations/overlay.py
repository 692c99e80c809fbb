"""Attributions drawn over their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench.analyses.support.pictures import write_png

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
LABEL = 14
_SIDE = 128


def overlay(image: Pixels, attribution: Floats, outline: NDArray[np.bool_] | None) -> Pixels:
    """An image [H, W, 3] under its attribution [H, W], with the lesion's outline where it is known."""
    from matplotlib import colormaps

    top = float(np.percentile(attribution, 99.5)) or float(attribution.max()) or 1.0
    strength = np.clip(attribution / top, 0, 1)
    colours = colormaps["inferno"](strength)[..., :3] * 255
    weight = 0.75 * strength[..., None] ** 0.7
    mixed: Pixels = (image * (1 - weight) + colours * weight).astype(np.uint8)
    if outline is not None:
        mixed[_edge(outline)] = (0, 255, 255)
    return mixed


def _edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(inside, 1)
    kept = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = inside & ~kept
    return edge


def sheet(
    images: Pixels,
    attributions: Mapping[str, Floats],
    masks: Sequence[NDArray[np.bool_] | None],
    labels: Sequence[str],
    path: Path,
) -> Path:
    """Write a PNG: a row an image, with the image and each explanation from left to right.

    Args:
        images: [N, H, W, 3]; attributions: [N, H, W] by name; masks, labels: N each.
        path: of the file.
    """
    names = ["image", *attributions]
    side = max(_SIDE, images.shape[1])
    drawn = Image.new("RGB", (side * len(names), (side + LABEL) * len(images) + LABEL), "white")
    pen = ImageDraw.Draw(drawn)
    for column, name in enumerate(names):
        pen.text((column * side + 2, 1), name, fill="black")
    for row, image in enumerate(images):
        top = LABEL + row * (side + LABEL)
        pen.text((2, top + 1), labels[row], fill="black")
        shown = [image, *(overlay(image, found[row], masks[row]) for found in attributions.values())]
        for column, each in enumerate(shown):
            drawn.paste(Image.fromarray(each).resize((side, side)), (column * side, top + LABEL))
    return write_png(drawn, path)
