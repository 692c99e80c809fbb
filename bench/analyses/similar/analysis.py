"""Similar cases: which training images does the model hold a test image to be like, and is it like any?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench.analyses.registry import Answer
from bench.analyses.similar.settings import SimilarSettings
from bench.analyses.support.averages import auroc, mean, picked, spread
from bench.analyses.support.intervals import unit_notes
from bench.analyses.support.likeness import UNLIKE, Likeness, features_of
from bench.analyses.support.pictures import write_png

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
_SIDE, _LABEL = 96, 26


def similar(cell: Any, settings: SimilarSettings, folder: Path) -> Answer:
    """The training images nearest to test images, by the network's pooled features.

    Args:
        cell: a finished cell whose predictor has a network.
        settings: how many images and neighbours.
        folder: for the picture.

    Returns:
        Columns `similar_same_label` and `similar_same_decision` (the share of neighbours of the image's class, and of
        the class that was decided on), `similar_distance`, `similar_unlike` (the share of images further away than 95 %
        of the validation images) and `similar_error_auroc` (how well the distance tells wrong decisions from right
        ones); table `images`.

    Raises:
        UserError: a predictor without a network, or fewer training images than neighbours.
    """
    known = Likeness.of(cell, settings.neighbours)
    stored = cell.predictions("test")
    rows = picked(len(stored.labels), settings.images, settings.seed)
    images = cell.images("test")[rows]
    places, away = known.nearest(features_of(cell.predictor, images), settings.neighbours)
    labels, groups = stored.labels[rows], stored.groups[rows]
    decisions = stored.probabilities[rows].argmax(axis=1)
    theirs = cell.table.labels[known.rows[places]]
    distance = away[:, -1]
    figures = {
        "same_label": (theirs == labels[:, None]).mean(axis=1),
        "same_decision": (theirs == decisions[:, None]).mean(axis=1),
        "distance": distance,
        "unlike": (distance > known.limit).astype(np.float64),
    }
    columns = {f"similar_{name}": mean(values, groups, settings) for name, values in figures.items()}
    columns["similar_error_auroc"] = auroc(distance, decisions != labels, groups, settings)
    found = _rows(cell, stored.ids[rows], labels, decisions, known, places, distance)
    sheet = _sheet(cell, images, found, known, places, settings, folder / "similar.png")
    notes = [
        f"{len(rows)} test images against {len(known.rows)} training images",
        f"unlike: further than {known.limit:.3f}, which {UNLIKE:.0f} % of the validation images do not exceed",
    ]
    return Answer(columns, {"images": found}, {"test images and their nearest training images": sheet},
                  [*notes, *unit_notes(groups)])  # fmt: skip


def _rows(
    cell: Any, ids: NDArray[np.str_], labels: Ints, decisions: Ints, known: Likeness, places: Ints, distance: Floats
) -> list[dict[str, Any]]:
    names = cell.table.ids[known.rows[places]]
    return [
        {
            "id": str(ids[number]),
            "label": cell.classes[labels[number]],
            "decision": cell.classes[decisions[number]],
            "distance": float(distance[number]),
            "unlike": bool(distance[number] > known.limit),
            "nearest": [str(name) for name in names[number]],
        }
        for number in range(len(ids))
    ]


def _sheet(
    cell: Any,
    images: Pixels,
    rows: list[dict[str, Any]],
    known: Likeness,
    places: Ints,
    settings: SimilarSettings,
    path: Path,
) -> Path:
    """Write a PNG: a row an image, the image itself and its nearest training images, each under its class."""
    train, shown = cell.images("train"), spread(len(rows), settings.shown)
    width, height = _SIDE * (1 + settings.neighbours), _SIDE + _LABEL
    sheet = Image.new("RGB", (width, height * len(shown)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(shown):
        names = [f"{rows[row]['label']}\nas {rows[row]['decision']}"]
        names += [str(cell.classes[label]) for label in cell.table.labels[known.rows[places[row]]]]
        for column, (name, image) in enumerate(zip(names, [images[row], *train[places[row]]], strict=True)):
            left, top = column * _SIDE, number * height
            pen.multiline_text((left + 2, top), name, fill="black", spacing=1)
            sheet.paste(Image.fromarray(image).resize((_SIDE, _SIDE)), (left, top + _LABEL))
    return write_png(sheet, path)
