"""The analysis `geometry`: section by section, one table each, and the columns that may enter a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.analyses.geometry import sections
from bench.analyses.geometry.boundary import Margin, attack_norms, first_order_margin
from bench.analyses.geometry.curvature import input_hessian_product
from bench.analyses.geometry.jacobian import angle, fisher, jacobian, pullback, squared_norm, top_singular_values
from bench.analyses.geometry.settings import GeometrySettings
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.averages import batches, mean, picked, plain
from bench.analyses.support.intervals import unit_notes
from bench.analyses.support.pixel_space import PixelSpace, pixel_space
from bench.core.errors import UserError

Row = dict[str, Any]

MEANS = {
    "stable_rank": "stable_rank",
    "top_singular_value": "singular_1",
    "feature_stable_rank": "feature_stable_rank",
    "margin_distance": "first_order_distance",
    "attack_norm": "attack_norm",
    "attack_over_first_order": "attack_over_first_order",
    "angle_to_pullback": "angle_to_pullback",
    "angle_to_fisher": "angle_to_fisher",
    "hessian_gap": "hessian_gap",
}
"""Columns that are means over images, by the field of the table `images` that they are means of."""

SATURATED = 1e-3
"""Probability left to the other classes below which float32 no longer tells the Hessian in the pixels."""


@dataclass(frozen=True)
class Chosen:
    """The images that are looked at one by one.

    Attributes:
        pixels: 0-1 [N, 3, H, W]; labels int64 [N]; ids, groups [N].
    """

    space: PixelSpace
    pixels: Tensor
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]


def geometry(cell: Any, settings: GeometrySettings, folder: Path) -> Answer:
    """The geometry of a finished cell's network on its test images.

    Args:
        cell: a finished cell whose predictor has a network.
        folder: the spectral densities are written there as one file.

    Raises:
        UserError: for a predictor without a network, a preparation without a unit of pixels, or no curvlinops.
    """
    network = getattr(cell.predictor, "network", None)
    if network is None:
        raise UserError("geometry asks for the network's derivatives, and this cell's predictor has no network")
    images = cell.images("test")
    chosen = _chosen(cell, pixel_space(network, cell.prepare, images.shape[1]), images, settings)
    rows = image_rows(chosen, settings)
    columns = {f"geometry_{name}": mean(_field(rows, of), chosen.groups, settings) for name, of in MEANS.items()}
    tables: dict[str, list[Row]] = {"images": rows}
    tables["paths"] = sections.paths(chosen.space, chosen.pixels, chosen.ids, chosen.labels, settings)
    tables["dimension"], tables["overlap"] = sections.dimensions(chosen.space, cell, images, settings)
    columns |= sections.dimension_columns(tables["dimension"], tables["overlap"])
    files = {}
    if settings.curvature:
        tables["curvature"], path = sections.curvatures(chosen.space, cell, images, settings, folder)
        files["spectral densities of the loss's Hessian"] = path
        columns |= sections.curvature_columns(tables["curvature"])
    return Answer(columns, tables, files, [*_notes(rows, columns, cell), *unit_notes(chosen.groups)])


def _chosen(cell: Any, space: PixelSpace, images: NDArray[np.uint8], settings: GeometrySettings) -> Chosen:
    stored = cell.predictions("test")
    rows = picked(len(stored.labels), settings.images, settings.seed)
    return Chosen(space, space.pixels(images[rows]), stored.labels[rows], stored.ids[rows], stored.groups[rows])


def image_rows(chosen: Chosen, settings: GeometrySettings) -> list[Row]:
    """A row an image: its metrics, its margin, and how they lie to each other."""
    rows, margins = [], []
    for number in range(len(chosen.pixels)):
        row, margin = _of_image(chosen, number, settings)
        rows.append(row)
        margins.append(margin)
    norms = _attacks(chosen, margins, settings)
    for row, norm in zip(rows, norms, strict=True):
        first = row["first_order_distance"]
        row["attack_norm"] = plain(norm)
        row["attack_over_first_order"] = plain(norm / first) if first else None
    return rows


def _of_image(chosen: Chosen, number: int, settings: GeometrySettings) -> tuple[Row, Margin]:
    space, image, label = chosen.space, chosen.pixels[number], int(chosen.labels[number])
    with torch.no_grad():
        logits = space.logits(image[None])[0]
    rows = jacobian(space.logits, image)
    metric, informed = pullback(rows), fisher(rows, logits.softmax(0))
    margin = first_order_margin(logits, rows)
    row: Row = {"id": str(chosen.ids[number]), "label": label, "decision": int(logits.argmax())}
    row |= {f"singular_{place}": plain(value) for place, value in enumerate(metric.eigenvalues.sqrt().tolist(), 1)}
    row |= {f"fisher_{place}": plain(value) for place, value in enumerate(informed.eigenvalues.tolist(), 1)}
    row |= {
        "stable_rank": plain(metric.stable_rank),
        "first_order_distance": plain(margin.distance),
        "rival": margin.rival,
        "angle_to_pullback": plain(angle(margin.direction, metric.top)),
        "angle_to_fisher": plain(angle(margin.direction, informed.top)),
        "hessian_gap": plain(hessian_gap(space, image, label, rows, logits)),
    }
    return row | _at_features(space, image, settings), margin


def hessian_gap(space: PixelSpace, image: Tensor, label: int, rows: Tensor, logits: Tensor) -> float:
    """|H v - F v| / |H v| along the loss's gradient v: 0 where the network is affine around the image.

    H is the loss's Hessian in the pixels, F the Fisher metric. NaN where the softmax is saturated: H is a difference
    of rounded probabilities there.

    Args:
        space: the network as a function of pixels.
        image: [C, H, W], 0 to 1.
        label: its class number.
        rows: the logits' Jacobian there [k, C, H, W].
        logits: there [k].
    """
    flat = rows.flatten(1).double()
    p = logits.double().softmax(0)
    if 1 - p.max() < SATURATED:
        return float("nan")
    vector = (p - torch.nn.functional.one_hot(torch.tensor(label), len(p)).to(p)) @ flat
    seen = flat @ vector
    expected = (p * (seen - p @ seen)) @ flat
    found = input_hessian_product(space.logits, image, label, vector.reshape(image.shape)).flatten().double()
    return float((found - expected).norm() / found.norm())


def _at_features(space: PixelSpace, image: Tensor, settings: GeometrySettings) -> Row:
    with torch.no_grad():
        width = space.features(image[None]).shape[1]
    count = min(settings.top, width)
    values = top_singular_values(space.features, image, count, settings.seed)
    total, error = squared_norm(space.features, image, settings.probes, settings.seed)
    first = float(values[0])
    row: Row = {f"feature_singular_{place}": plain(value) for place, value in enumerate(values.tolist(), 1)}
    return row | {
        "feature_squares": plain(total),
        "feature_squares_error": plain(error),
        "feature_stable_rank": plain(total / first**2) if first > 0 else None,
    }


def _attacks(chosen: Chosen, margins: list[Margin], settings: GeometrySettings) -> list[float]:
    starts = chosen.pixels.new_tensor([margin.distance for margin in margins])
    rivals = torch.tensor([margin.rival for margin in margins], device=chosen.pixels.device)
    found = [
        attack_norms(
            chosen.space.logits,
            chosen.pixels[part],
            starts[part],
            rivals[part],
            settings.seed,
            settings.attack_steps,
            halvings=5,
        )
        for part in batches(len(margins), settings.batch)
    ]
    return [float(norm) for norm in torch.cat(found)]


def _field(rows: list[Row], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _notes(rows: list[Row], columns: dict[str, Estimate], cell: Any) -> list[str]:
    notes = [f"{len(rows)} test images; lengths are in 0-1 pixels; the attack's norm bounds the distance from above"]
    gap = columns["geometry_hessian_gap"].value
    if gap is not None and gap > 1e-2:
        notes.append("the network is not piecewise affine: its Hessian in the pixels is not the Fisher metric")
    if len(cell.classes) == 2:
        notes.append(
            "with two classes the Fisher metric's one direction is the boundary's: their angle is 0 by algebra"
        )
    if not any(np.isfinite(_field(rows, "attack_norm"))):
        notes.append("the attack changed no decision")
    return notes
