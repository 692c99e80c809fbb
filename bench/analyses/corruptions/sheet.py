"""One image under every corruption, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bench.analyses.corruptions.common import SEVERITIES, Corruption, Pixels
from bench.analyses.support.pictures import write_png

LABEL = 14
"""Pixels above each row, for the corruption's name."""


def contact_sheet(image: Pixels, functions: Mapping[str, Corruption], seed: int, path: Path) -> Path:
    """Write a PNG: a row a corruption, the clean image and the five severities from left to right.

    Args:
        image: uint8 [H, W, 3].
        functions: the corruptions by name.
        seed: of their draws.
        path: of the file.
    """
    height, width = image.shape[:2]
    sheet = Image.new("RGB", (width * (1 + len(SEVERITIES)), (height + LABEL) * len(functions)), "white")
    for number, (name, function) in enumerate(functions.items()):
        top = number * (height + LABEL)
        ImageDraw.Draw(sheet).text((2, top + 1), name, fill="black")
        shown = [image, *(function(image, severity, np.random.default_rng(seed)) for severity in SEVERITIES)]
        sheet.paste(Image.fromarray(np.concatenate(shown, axis=1)), (0, top + LABEL))
    return write_png(sheet, path)
