"""A dataset cut to its lesions' outlines: what a classifier behind a perfect segmentation is given."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.images.files import FORMATS
from bench.data.sources import figshare
from bench.data.table import ImageSource, Pixels, Table

NAME = "figshare-brain-regions"
MARGIN = 0.1
"""Of the outline's longer side, on each of the square's sides."""


@dataclass(frozen=True)
class Regions:
    """The square around each lesion of another image source.

    Attributes:
        masks: the file of each image's outline, filled.
    """

    source: ImageSource
    masks: tuple[Path, ...]

    def read(self, index: int) -> Pixels:
        """The region, uint8 [S, S] or [S, S, 3]; what reaches beyond the image is cut off. Raises UserError."""
        pixels = self.source.read(index)
        rows, columns = square(self._outline(index, pixels.shape[:2]))
        return np.ascontiguousarray(pixels[rows, columns])

    def checksum(self, index: int) -> str:
        """Changes with the image and with the outline."""
        try:
            outline = hashlib.blake2b(self.masks[index].read_bytes(), digest_size=8).hexdigest()
        except OSError as error:
            raise UserError(f"the mask {self.masks[index]} cannot be read ({error}); bring it back") from error
        return f"{self.source.checksum(index)}-{outline}-{MARGIN}"

    def _outline(self, index: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        try:
            with Image.open(self.masks[index], formats=FORMATS) as stored:
                # Any pixel that touches the lesion: thin ones would vanish from a smaller mask.
                resized = stored.convert("L").resize((shape[1], shape[0]), Image.Resampling.BOX)
        except OSError as error:
            raise UserError(f"the mask {self.masks[index]} cannot be read ({error}); bring it back") from error
        return np.asarray(resized) > 0


def square(outline: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the square around an outline [H, W], with its margin; the whole image for an empty one."""
    if not outline.any():
        return slice(0, outline.shape[0]), slice(0, outline.shape[1])
    ends = [np.flatnonzero(outline.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    half = max(last - first + 1 for first, last in ends) * (0.5 + MARGIN)
    middles = [(first + last + 1) / 2 for first, last in ends]
    rows, columns = (
        slice(max(0, round(middle - half)), min(side, round(middle + half)))
        for middle, side in zip(middles, outline.shape, strict=True)
    )
    return rows, columns


def read(path: Path, protocol: Protocol) -> Table:
    """Cheng's slices, each cut to its tumour.

    Raises:
        UserError: the files are not there, or have no outlines beside them.
    """
    table = figshare.read(path, protocol)
    if table.masks is None:
        raise UserError(f"dataset {NAME!r}: {path} has no masks/N.png beside the slices; use {figshare.NAME}")
    outlined = table.select(np.flatnonzero(table.masks != ""))
    assert outlined.masks is not None
    return replace(
        outlined,
        name=NAME,
        images=Regions(outlined.images, tuple(Path(str(file)) for file in outlined.masks)),
        masks=None,
        notes=(*outlined.notes, "each slice cut to a square around the tumour's outline, which was drawn by hand"),
    )


SPEC = replace(
    figshare.SPEC,
    name=NAME,
    title="Brain tumours cut to their outlines (figshare)",
    summary="the same slices, each cut to a square around the tumour",
    reader=read,
    hint=f"`bench data add {figshare.NAME} FOLDER`, with masks/N.png beside the slices",
    downloads=(),
    reading="the region that [33] classifies, by the data set's own outlines in place of a segmentation",
    same_files_as=figshare.NAME,
    caution="images cut to hand-drawn outlines, test images too",
)
