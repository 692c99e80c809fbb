"""A finished cell's answer on image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.images.cache import stacked
from bench.data.images.files import decode, picture_files
from bench.data.table import Pixels
from models.evaluate import positions
from models.predictor import Predictor


@dataclass(frozen=True)
class FileAnswer:
    """What a predictor says of a file.

    Attributes:
        probabilities: float32 [k]; None where the file cannot be decoded, and `problem` says why.
    """

    path: Path
    probabilities: NDArray[np.float32] | None
    problem: str = ""


def files_of(places: Sequence[Path]) -> list[Path]:
    """The files named, and the pictures below the folders named, each once.

    Raises:
        UserError: a place is not there, or a folder holds no picture.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"there is no {place}; name image files or folders of them")
        pictures = picture_files(place) if place.is_dir() else [place]
        if not pictures:
            raise UserError(f"{place} holds no picture; name image files or folders of them")
        found |= dict.fromkeys(pictures)
    return list(found)


def answers(predictor: Predictor, paths: Sequence[Path]) -> Iterator[FileAnswer]:
    """The answers on files, decoded and resized as a dataset's images are, in their order."""
    for rows in positions(len(paths)):
        decoded = [_decoded(path) for path in paths[rows]]
        pixels = [image for image, _ in decoded if image is not None]
        probabilities = iter(predictor.of_images(stacked(pixels, predictor.card.image_size)))
        for path, (image, problem) in zip(paths[rows], decoded, strict=True):
            yield FileAnswer(path, next(probabilities) if image is not None else None, problem)


def _decoded(path: Path) -> tuple[Pixels | None, str]:
    try:
        return decode(path), ""
    except UserError as error:
        return None, str(error)
