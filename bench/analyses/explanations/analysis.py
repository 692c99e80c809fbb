"""The analysis `explanations`: where a finished cell looks, in pictures and in numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.analyses.explanations.attribution import Explainer, integrated_gradients_of, layer_cam_of, randomised
from bench.analyses.explanations.measures import (
    centre_prior,
    mass,
    pointing,
    rank_correlation,
    removal_curves,
    within_reach,
)
from bench.analyses.explanations.overlay import sheet
from bench.analyses.explanations.settings import ExplanationsSettings
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.averages import batches, mean, plain, spread
from bench.analyses.support.intervals import unit_notes
from bench.analyses.support.pixel_space import PixelSpace, pixel_space
from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.data.images.masks import mask

Floats = NDArray[np.float64]
Row = dict[str, Any]
METHODS = ("layercam", "gradients")
OF_MASKS = ("mass", "mass_over_chance", "pointing")


@dataclass(frozen=True)
class Chosen:
    """The images that are explained, each for the class that the model predicted.

    Attributes:
        images: uint8 [N, H, W, 3]; ids, groups [N]; labels, decisions int64 [N]; masks: N, None where none is known.
    """

    images: NDArray[np.uint8]
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    labels: NDArray[np.int64]
    decisions: NDArray[np.int64]
    masks: tuple[NDArray[np.bool_] | None, ...]


def explanations(cell: Any, settings: ExplanationsSettings, folder: Path) -> Answer:
    """Explain decisions on test images by LayerCAM and integrated gradients, and measure the explanations.

    Args:
        cell: a finished cell whose predictor has a network.
        settings: how many images, and how finely.
        folder: for the pictures.

    Returns:
        Columns `explanations_FIGURE_METHOD`, and what chance and a centre prior would reach; tables `images`, `chance`.

    Raises:
        UserError: a predictor without a network, or without a unit of pixels.
    """
    network = getattr(cell.predictor, "network", None)
    if network is None:
        raise UserError("explanations follow the network's gradients, and this cell's predictor has no network")
    chosen = chosen_images(cell, settings)
    space = pixel_space(network, cell.prepare, chosen.images.shape[1])
    explainers = {
        "layercam": layer_cam_of(settings.stride),
        "gradients": integrated_gradients_of(settings.gradient_steps),
    }
    shuffled = replace(space, network=randomised(network, settings.seed))
    others = _other_seeds(cell, settings)
    rows: list[Row] = []
    drawn: dict[str, Floats] = {}
    for method, explain in explainers.items():
        drawn[method] = attributions(space, chosen, explain, settings.batch)
        forgotten = attributions(shuffled, chosen, explain, settings.batch)
        elsewhere = [attributions(other, chosen, explain, settings.batch) for other in others]
        stable = agreement(drawn[method], elsewhere)
        rows += [
            _row(cell, chosen, number, method, drawn[method], forgotten, settings) | {"stability": stable[number]}
            for number in range(len(chosen.ids))
        ]
    chance = [_chance_row(cell, chosen, number, settings) for number in range(len(chosen.ids))]
    columns = _columns(rows, chance, chosen, settings)
    files = _pictures(cell, chosen, drawn, settings, folder) | _arrays(chosen, drawn, folder)
    return Answer(columns, {"images": rows, "chance": chance}, files, _notes(chosen, len(others)))


def _other_seeds(cell: Any, settings: ExplanationsSettings) -> list[PixelSpace]:
    """The networks of other seeds, for the same images."""
    cells = cell.beside("seed")[: settings.other_seeds] if settings.other_seeds else []
    return [pixel_space(each.predictor.network, each.prepare, each.predictor.card.image_size) for each in cells]


def agreement(own: Floats, others: Sequence[Floats]) -> list[float | None]:
    """The mean rank correlation of each image's attribution [N, H, W] with other networks'; None without any."""
    if not others:
        return [None] * len(own)
    found = [[rank_correlation(mine, other[number]) for other in others] for number, mine in enumerate(own)]
    return [plain(float(np.mean(values))) for values in found]


def chosen_images(cell: Any, settings: ExplanationsSettings) -> Chosen:
    """Test images drawn by the seed, those with a mask before the others, by rising id."""
    stored, images = cell.predictions("test"), cell.images("test")
    place = {str(name): row for row, name in enumerate(cell.table.ids)}
    masked = np.array([_has_mask(cell.table, place[str(name)]) for name in stored.ids])
    order = np.random.default_rng(settings.seed).permutation(len(stored.ids))
    rows = np.sort(order[np.argsort(~masked[order], kind="stable")][: settings.images])
    masks = tuple(mask(cell.table, place[str(name)], images.shape[1]) for name in stored.ids[rows])
    decisions = stored.probabilities[rows].argmax(1).astype(np.int64)
    return Chosen(images[rows], stored.ids[rows], stored.groups[rows], stored.labels[rows], decisions, masks)


def _has_mask(table: Any, row: int) -> bool:
    return table.masks is not None and bool(table.masks[row])


def attributions(space: PixelSpace, chosen: Chosen, explain: Explainer, batch: int) -> Floats:
    """The attribution of every image [N, H, W].

    Args:
        space: the network as a function of pixels.
        chosen: the images, and the class that each is explained for.
        explain: the method.
        batch: images at once.
    """
    found = []
    for part in batches(len(chosen.ids), batch):
        pixels = space.pixels(chosen.images[part])
        classes = torch.from_numpy(chosen.decisions[part]).to(pixels.device)
        found.append(explain(space, pixels, classes).detach().cpu().numpy().astype(np.float64))
    return np.concatenate(found)


def _row(
    cell: Any,
    chosen: Chosen,
    number: int,
    method: str,
    found: Floats,
    forgotten: Floats,
    settings: ExplanationsSettings,
) -> Row:
    """The metrics of one image's explanation."""
    attribution, inside = found[number], chosen.masks[number]
    decision, label = int(chosen.decisions[number]), int(chosen.labels[number])
    row: Row = {"id": str(chosen.ids[number]), "method": method, "label": cell.classes[label]}
    row |= {"decision": cell.classes[decision], **dict.fromkeys(OF_MASKS)}
    if inside is not None and inside.any():
        share = mass(attribution, inside)
        over = plain(share / float(inside.mean()))
        row |= {"mass": plain(share), "mass_over_chance": over, "pointing": plain(pointing(attribution, inside))}
    deletion, insertion = _removed(cell, chosen, number, attribution, settings)
    row |= {"deletion": deletion, "insertion": insertion, "faithfulness": insertion - deletion}
    return row | {"randomised": plain(rank_correlation(attribution, forgotten[number]))}


def _chance_row(cell: Any, chosen: Chosen, number: int, settings: ExplanationsSettings) -> Row:
    """What a random order of pixels, a uniform map and the middle of the image would reach."""
    size = chosen.images.shape[1]
    inside, centre = chosen.masks[number], centre_prior(size)
    seed = derive_seed(settings.seed, str(chosen.ids[number]))
    noise = np.random.default_rng(seed).uniform(size=(size, size))
    deletion, insertion = _removed(cell, chosen, number, noise, settings)
    row: Row = {"id": str(chosen.ids[number]), "faithfulness_chance": insertion - deletion}
    deletion, insertion = _removed(cell, chosen, number, centre, settings)
    row |= {"faithfulness_centre": insertion - deletion}
    known = inside is not None and inside.any()
    row["mass_chance"] = float(inside.mean()) if inside is not None and known else None
    row["pointing_chance"] = float(within_reach(inside).mean()) if inside is not None and known else None
    row["mass_centre"] = plain(mass(centre, inside)) if inside is not None and known else None
    row["pointing_centre"] = plain(pointing(centre, inside)) if inside is not None and known else None
    return row


def _removed(
    cell: Any, chosen: Chosen, number: int, attribution: Floats, settings: ExplanationsSettings
) -> tuple[float, float]:
    def answers(images: NDArray[np.uint8]) -> Floats:
        return np.asarray(cell.predictor.of_images(images), dtype=np.float64)

    return removal_curves(chosen.images[number], attribution, answers, int(chosen.decisions[number]), settings.removals)


def _columns(rows: list[Row], chance: list[Row], chosen: Chosen, settings: ExplanationsSettings) -> dict[str, Estimate]:
    def over(given: list[Row], name: str) -> Estimate:
        values = [np.nan if row[name] is None else row[name] for row in given]
        return mean(values, chosen.groups, settings)

    columns = {}
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        for name in (*OF_MASKS, "deletion", "insertion", "faithfulness", "randomised", "stability"):
            columns[f"explanations_{name}_{method}"] = over(mine, name)
    return columns | {f"explanations_{name}": over(chance, name) for name in chance[0] if name != "id"}


def _pictures(
    cell: Any, chosen: Chosen, drawn: dict[str, Floats], settings: ExplanationsSettings, folder: Path
) -> dict[str, Path]:
    rows = spread(len(chosen.ids), settings.shown)
    labels = [
        f"{name}: {cell.classes[label]}, predicted {cell.classes[decision]}"
        for name, label, decision in zip(chosen.ids[rows], chosen.labels[rows], chosen.decisions[rows], strict=True)
    ]
    shown = {method: found[rows] for method, found in drawn.items()}
    path = sheet(chosen.images[rows], shown, [chosen.masks[row] for row in rows], labels, folder / "explanations.png")
    return {"explanations of some decisions; cyan: the lesion's outline": path}


def _arrays(chosen: Chosen, drawn: dict[str, Floats], folder: Path) -> dict[str, Path]:
    """Every attribution, as large as its image, for other tools."""
    stored = io.BytesIO()
    maps: dict[str, Any] = {name: found.astype(np.float32) for name, found in drawn.items()}
    np.savez_compressed(stored, ids=chosen.ids, **maps)
    write_bytes(folder / "attributions.npz", stored.getvalue())
    return {"attributions [N, H, W] by method": folder / "attributions.npz"}


def _notes(chosen: Chosen, others: int) -> list[str]:
    known = sum(each is not None for each in chosen.masks)
    notes = [f"{len(chosen.ids)} test images, each explained for the class that the model predicted"]
    seeds = f"stability is against {others} other seeds" if others else "no cell of another seed: stability is unknown"
    notes.append(seeds)
    if not known:
        return [*notes, "no lesion's mask is known: mass and pointing are not measured", *unit_notes(chosen.groups)]
    without = f"; {len(chosen.ids) - known} have no mask" if known < len(chosen.ids) else ""
    return [*notes, f"mass and pointing are of the {known} with a lesion's mask{without}", *unit_notes(chosen.groups)]
