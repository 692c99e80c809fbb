"""A finished cell's answers on image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.analyses.predicting.maps import write_maps
from bench.analyses.predicting.reference import Reference
from bench.core.errors import UserError
from bench.data.images.cache import stacked
from bench.data.images.files import decode, picture_files
from bench.data.table import Pixels
from models.evaluate import positions
from models.predictor import Predictor


@dataclass(frozen=True)
class FileAnswer:
    """What a cell says of a file; what is not known is None.

    Attributes:
        probabilities: float32 [k]; None where the file cannot be decoded, and `problem` says why.
        calibrated: after the temperature that was fitted on validation [k].
        inside: whether each class is in the conformal set [k].
        distance: to the training images, in feature space.
        unlike: whether that is more than 95 % of the validation images have.
        heat_map: the file of the heat map, where maps were asked for.
    """

    path: Path
    probabilities: NDArray[np.float32] | None
    problem: str = ""
    calibrated: NDArray[np.float64] | None = None
    inside: NDArray[np.bool_] | None = None
    distance: float | None = None
    unlike: bool | None = None
    heat_map: Path | None = None


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


def answers(
    predictor: Predictor, paths: Sequence[Path], reference: Reference | None = None, maps: Path | None = None
) -> Iterator[FileAnswer]:
    """The answers on files, decoded and resized as a dataset's images are, in their order.

    Args:
        predictor: what answers.
        paths: of the files.
        reference: what else is to be said of an answer; None: nothing.
        maps: the folder for heat maps; None: none are made.
    """
    for rows in positions(len(paths)):
        decoded = [_decoded(path) for path in paths[rows]]
        pixels = [image for image, _ in decoded if image is not None]
        images = stacked(pixels, predictor.card.image_size)
        good = [place for place, (image, _) in enumerate(decoded) if image is not None]
        files = [_map_file(maps, rows.start + place, paths[rows][place]) for place in good]
        found = dict(zip(good, _answered(predictor, images, reference, files), strict=True))
        for place, (path, (_, problem)) in enumerate(zip(paths[rows], decoded, strict=True)):
            yield replace(found[place], path=path) if place in found else FileAnswer(path, None, problem)


def _map_file(folder: Path | None, number: int, path: Path) -> Path | None:
    """A name of its own for each image, whatever the folders that they come from."""
    return None if folder is None else folder / f"{number:04}-{path.stem}.png"


def _answered(
    predictor: Predictor, images: NDArray[np.uint8], reference: Reference | None, files: Sequence[Path | None]
) -> Iterator[FileAnswer]:
    """The answers on decoded images [N, H, W, 3], without their paths."""
    if not len(images):
        return
    probabilities = predictor.of_images(images)
    named = [path for path in files if path is not None]
    if named:
        write_maps(predictor, images, probabilities.argmax(axis=1).astype(np.int64), named)
    given = probabilities.astype(np.float64)
    known = reference or Reference(None, None, None)
    calibrated = None if known.temperature is None else known.temperature.apply(given)
    inside, away = known.sets(given), known.distances(predictor, images)
    for row, shares in enumerate(probabilities):
        yield FileAnswer(
            Path(),
            shares,
            calibrated=None if calibrated is None else calibrated[row],
            inside=None if inside is None else inside[row],
            # The last bits of a matrix product depend on how many rows it has.
            distance=None if away is None else round(float(away[row]), 6),
            unlike=None if away is None or known.likeness is None else bool(away[row] > known.likeness.limit),
            heat_map=files[row],
        )


def _decoded(path: Path) -> tuple[Pixels | None, str]:
    try:
        return decode(path), ""
    except UserError as error:
        return None, str(error)
