"""The lesions' outlines of a table, at the size at which a network sees its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.errors import UserError
from bench.data.images.files import FORMATS
from bench.data.table import Table


def mask(table: Table, row: int, size: int) -> NDArray[np.bool_] | None:
    """Where the lesion of an image is: [size, size], squeezed to a square as the image is; None where none is known.

    A pixel belongs to the lesion where more than half of what it covers does.

    Args:
        table: the dataset.
        row: of the image in it.
        size: the side in pixels.

    Raises:
        UserError: the mask's file is missing or damaged.
    """
    if table.masks is None or not table.masks[row]:
        return None
    path = Path(str(table.masks[row]))
    try:
        with Image.open(path, formats=FORMATS) as stored:
            resized = stored.convert("L").resize((size, size), Image.Resampling.BOX)
    except OSError as error:
        raise UserError(f"the mask {path} cannot be read ({error}); bring it back, or add the dataset anew") from error
    return np.asarray(resized) > 127
