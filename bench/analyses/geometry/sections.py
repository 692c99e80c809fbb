"""The sections of `geometry` that look at several images at once: paths, dimension, curvature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.analyses.geometry.curvature import Hessian, Spectrum, hessian, output_layer_spectrum, spectral_density
from bench.analyses.geometry.dimension import distances, distinct, levina_bickel, overlap, two_nn
from bench.analyses.geometry.layers import blocks, last_linear, pooled, recorded, spread
from bench.analyses.geometry.paths import curve, least_energy_path, segment
from bench.analyses.geometry.settings import GeometrySettings
from bench.analyses.registry import Estimate
from bench.analyses.support.averages import batches, picked, plain
from bench.analyses.support.pixel_space import PixelSpace
from bench.core.atomic import write_json

Row = dict[str, Any]
FEWEST = 20
"""Distinct images below which no dimension is given for a class or a site."""


def paths(
    space: PixelSpace,
    pixels: Tensor,
    ids: NDArray[np.str_],
    labels: NDArray[np.int64],
    settings: GeometrySettings,
) -> list[Row]:
    """A row a pair of images: its segment's length in input, feature and output space; the path of least energy.

    Args:
        space: the network as a function of pixels.
        pixels: 0 to 1 [N, C, H, W].
        ids: of the images [N].
        labels: their class numbers [N].
        settings: of the analysis.
    """
    rows = []
    for first, second in drawn_pairs(len(pixels), settings.pairs, settings.seed):
        straight = segment(pixels[first], pixels[second], settings.points)
        features, outputs = curve(space.features, straight), curve(space.logits, straight)
        least = curve(space.features, least_energy_path(space.features, straight, settings.path_steps))
        row: Row = {"first": str(ids[first]), "second": str(ids[second])}
        row["same_class"] = bool(labels[first] == labels[second])
        row["input_length"] = float((pixels[first] - pixels[second]).norm())
        for name, found in (("feature", features), ("output", outputs), ("least_energy", least)):
            row |= {f"{name}_length": found.length, f"{name}_ratio": plain(found.ratio)}
        row["energy_ratio"] = plain(least.energy / features.energy) if features.energy > 0 else None
        rows.append(row)
    return rows


def drawn_pairs(count: int, pairs: int, seed: int) -> list[tuple[int, int]]:
    """At most `pairs` different pairs of different rows, drawn by a seed.

    Args:
        count: of the rows.
        pairs: at most.
        seed: of the draw.
    """
    firsts, seconds = np.triu_indices(count, 1)
    return [(int(firsts[row]), int(seconds[row])) for row in picked(len(firsts), pairs, seed)]


def dimensions(
    space: PixelSpace, cell: Any, images: NDArray[np.uint8], settings: GeometrySettings
) -> tuple[list[Row], list[Row]]:
    """Dimension by layer, of all images and by class and site; and the sites' overlap by layer.

    Sites stand for the clients: they are what a federation would be divided by.

    Args:
        space: the network as a function of pixels.
        cell: the finished cell.
        images: uint8 [N, H, W, 3], its test images.
        settings: of the analysis.
    """
    stored = cell.predictions("test")
    rows = picked(len(stored.labels), settings.dimension_images, settings.seed)
    sites, labels = stored.sites[rows], stored.labels[rows]
    parts = {("all", "all"): np.ones(len(rows), dtype=np.bool_)}
    parts |= {("class", name): labels == number for number, name in enumerate(cell.classes)}
    parts |= {("site", str(name)): sites == name for name in np.unique(sites) if name}
    found, overlaps = [], []
    for layer, points in layer_points(space, images[rows], settings).items():
        between = distances(points)
        kept = np.zeros(len(rows), dtype=np.bool_)
        kept[distinct(between)] = True
        for (kind, name), of_part in parts.items():
            row = _dimension(between, np.flatnonzero(of_part & kept), settings.neighbours)
            found.append({"layer": layer, "of": kind, "name": name, "removed": int((of_part & ~kept).sum()), **row})
        overlaps += _overlap(between, np.flatnonzero(kept & (sites != "")), sites, layer, settings.neighbours)
    return found, overlaps


def layer_points(space: PixelSpace, images: NDArray[np.uint8], settings: GeometrySettings) -> dict[str, Any]:
    """Points by layer: pixels, stages of the backbone (means over positions), features and logits, each [N, d].

    Args:
        space: the network as a function of pixels.
        images: uint8 [N, H, W, 3].
        settings: of the analysis.
    """
    chosen = dict(spread(blocks(space.network.backbone), settings.layers))  # type: ignore[arg-type]
    found: dict[str, list[Tensor]] = {}
    for part in batches(len(images), settings.batch):
        pixels = space.pixels(images[part])
        with recorded(chosen) as kept, torch.no_grad():
            answers = {"features": space.features(pixels), "logits": space.logits(pixels)}
        outputs = {f"backbone {name}": pooled(kept[name][1]) for name in chosen if name in kept}
        for name, points in {"pixels": pixels.flatten(1), **outputs, **answers}.items():
            found.setdefault(name, []).append(points.cpu())
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}


def _dimension(between: NDArray[np.float64], rows: NDArray[np.int64], neighbours: int) -> Row:
    empty = dict.fromkeys(("two_nn", "two_nn_low", "two_nn_high", "mle", "mle_low", "mle_high"))
    if len(rows) < max(FEWEST, neighbours + 1):
        return {"images": len(rows), **empty}
    apart = between[np.ix_(rows, rows)]
    two, many = two_nn(apart), levina_bickel(apart, neighbours)
    values = (two.value, two.low, two.high, many.value, many.low, many.high)
    return {"images": len(rows), **dict(zip(empty, values, strict=True))}


def _overlap(
    between: NDArray[np.float64], rows: NDArray[np.int64], sites: NDArray[np.str_], layer: str, neighbours: int
) -> list[Row]:
    if len(rows) <= neighbours or len(np.unique(sites[rows])) < 2:
        return []
    found = overlap(between[np.ix_(rows, rows)], sites[rows], neighbours)
    pairs = [(a, b) for a in range(len(found.owners)) for b in range(len(found.owners))]
    each = [(found.owners[a], found.owners[b], plain(float(found.mixing[a, b]))) for a, b in pairs]
    shown = [*each, ("all", "others", plain(found.across))]
    return [{"layer": layer, "site": a, "neighbours_of": b, "over_chance": value} for a, b, value in shown]


def dimension_columns(found: list[Row], overlaps: list[Row]) -> dict[str, Estimate]:
    """The features' dimension by both estimators, and the sites' overlap there."""
    (row,) = [row for row in found if row["layer"] == "features" and row["of"] == "all"]
    columns = {
        f"geometry_dimension_{name}": Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])
        for name in ("two_nn", "mle")
    }
    across = [row for row in overlaps if row["layer"] == "features" and row["site"] == "all"]
    if across:
        columns["geometry_site_overlap"] = Estimate(across[0]["over_chance"])
    return columns


def curvatures(
    space: PixelSpace, cell: Any, images: NDArray[np.uint8], settings: GeometrySettings, folder: Path
) -> tuple[list[Row], Path]:
    """The loss's Hessian in the output layer, in the head and in the whole network, and the file of their densities.

    Args:
        space: the network as a function of pixels.
        cell: the finished cell.
        images: uint8 [N, H, W, 3].
        settings: of the analysis.
        folder: where the file goes.
    """
    labels = cell.predictions("test").labels
    rows = picked(len(labels), settings.curvature_images, settings.seed)
    targets, network = torch.from_numpy(labels[rows]).to(space.black.device), space.network
    inputs = space.inputs(space.pixels(images[rows]))
    head: Any = network.head
    output = last_linear(head)
    with torch.no_grad(), recorded({"output": output}) as kept:
        maps = torch.cat([network.backbone(part) for part in torch.split(inputs, settings.batch)])  # type: ignore[operator]
        logits = head(maps)
    exact = output_layer_spectrum(kept["output"][0].flatten(1).cpu(), logits.cpu())
    size = sum(parameter.numel() for parameter in output.parameters())
    whole = torch.nn.Sequential(network.backbone, head)  # type: ignore[arg-type]
    found = {
        "output layer": (size, "exact", Spectrum.exact(np.pad(exact, (0, max(0, size - len(exact)))))),
        "head": _spectrum(hessian(head, maps, targets, batch=settings.batch), settings),
        "network": _spectrum(hessian(whole, inputs, targets, batch=settings.batch), settings),
    }
    path = folder / "curvature.json"
    write_json(path, {name: density_of(spectrum) for name, (_, _, spectrum) in found.items()})
    return [_curvature_row(name, *each, images=len(rows)) for name, each in found.items()], path


def _spectrum(found: Hessian, settings: GeometrySettings) -> tuple[int, str, Spectrum]:
    if found.size <= settings.dense:
        return found.size, "exact", Spectrum.exact(torch.linalg.eigvalsh(found.dense()).numpy())
    seeds = range(settings.seed, settings.seed + settings.lanczos_runs)
    return found.size, "lanczos", spectral_density(found, settings.lanczos_steps, seeds)


def _curvature_row(name: str, size: int, method: str, spectrum: Spectrum, images: int) -> Row:
    return {
        "of": name,
        "parameters": size,
        "method": method,
        "images": images,
        "largest": float(spectrum.nodes[-1]),
        "smallest": float(spectrum.nodes[0]),
        "trace": float(size * (spectrum.weights @ spectrum.nodes)),
        "negative_share": spectrum.negative_share(),
        "negative_mass": spectrum.negative_mass(),
    }


def density_of(spectrum: Spectrum, points: int = 400) -> dict[str, list[float]]:
    """A density as it is drawn: values and density, Gaussians of a hundredth of the spectrum's span wide."""
    low, high = float(spectrum.nodes[0]), float(spectrum.nodes[-1])
    width = max(high - low, 1e-12) / 100
    grid = np.linspace(low - 4 * width, high + 4 * width, points)
    return {"values": grid.tolist(), "density": spectrum.density(grid, width).tolist()}


def curvature_columns(rows: list[Row]) -> dict[str, Estimate]:
    """The largest eigenvalue and the negative mass of the head's and of the network's Hessian."""
    return {
        f"geometry_{row['of']}_{name}": Estimate(row[name])
        for row in rows
        if row["of"] in ("head", "network")
        for name in ("largest", "negative_mass")
    }
