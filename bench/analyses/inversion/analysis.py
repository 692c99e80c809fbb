"""The analysis `inversion`: updates of a few training images attacked, with and without what protects them."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from bench.analyses.inversion.attack import features_of, psnr, reconstructed
from bench.analyses.inversion.settings import InversionSettings
from bench.analyses.inversion.updates import Step, observed_step
from bench.analyses.registry import Answer, Estimate
from bench.analyses.support.averages import columns_of, mean
from bench.analyses.support.intervals import unit_notes
from bench.analyses.support.pixel_space import PixelSpace, pixel_space
from bench.core.atomic import write_bytes
from bench.core.errors import UserError
from bench.core.identity import derive_seed
from bench.data.loader import Part
from federated.privacy.mechanism import epsilon

ENLARGED = 2


def inversion(cell: Any, settings: InversionSettings, folder: Path) -> Answer:
    """How much of its images one step of a client shows to the server, beside the mean image of each one's class.

    Args:
        cell: a finished cell of a fully tuned network.
        settings: batch sizes, the attack's length, the protections' strength.
        folder: a picture a batch size is written there: a row of victims, and one of reconstructions a protection.

    Returns:
        Columns `inversion_gain` (batch of the first size, nothing protected) and `inversion_gain_dp`: PSNR in dB above
        the class' mean image; table `attacks`: PSNR and SSIM by batch size and protection.

    Raises:
        UserError: a frozen backbone, or too few training images.
    """
    network = getattr(cell.predictor, "network", None)
    if network is None or cell.spec.protocol.tuning != "full":
        raise UserError("inversion attacks the whole network's gradient; run the cell with --set tuning=full")
    images = cell.images("train")
    most = max(settings.batches) * max(settings.clients, settings.victims)
    if len(images) < most + len(cell.classes):
        raise UserError(f"inversion needs {most} training images and some more for the class means, not {len(images)}")
    space = pixel_space(network.eval(), cell.prepare, images.shape[1])
    lab = _Laboratory(cell, settings, space, images)
    results = [(size, name, lab.attacked(size, name)) for size in settings.batches for name in settings.protections]
    table = [_row(size, name, found, settings) for size, name, found in results]
    files = {f"batch {size}": lab.picture(size, results, folder / f"batch-{size}.png") for size in settings.batches}
    first = {name: found for size, name, found in results if size == settings.batches[0]}
    asked = {"inversion_gain": "none", "inversion_gain_dp": "local DP"}
    columns = {name: _gain(first[of], settings) for name, of in asked.items() if of in first}
    spent = epsilon(settings.noise_multiplier, 1.0, 1, settings.delta, "replace one client")
    notes = [
        f"local DP: clipped to {settings.clip_norm:g}, noise multiplier {settings.noise_multiplier:g}: epsilon "
        f"{spent:.2f} at delta {settings.delta:g} for one update (replace one client)",
        f"secure aggregation: the mean of {settings.clients} clients' updates is attacked, its rounding left out",
        "the attacker is given the labels" + (", and knows that images are gray" if lab.channels == 1 else ""),
    ]
    groups = np.concatenate([found["groups"] for found in first.values()])
    return Answer(columns, {"attacks": table}, files, [*notes, *unit_notes(groups)])


class _Laboratory:
    """Victims, their class' mean images, and the attack under one protection."""

    def __init__(self, cell: Any, settings: InversionSettings, space: PixelSpace, images: Any) -> None:
        self._settings, self._space, self._cell = settings, space, cell
        self._order = np.random.default_rng(settings.seed).permutation(len(images))
        known = cell.predictions("train")
        columns = (known.labels, known.ids, known.groups, known.sites)
        self._whole = Part(images, np.arange(len(images)), *columns)
        self._pixels = space.pixels(images)
        # Gray pictures need a third of the unknowns.
        self.channels = 1 if bool((self._pixels.amax(1) - self._pixels.amin(1)).max() < 1e-6) else 3

    def attacked(self, size: int, protection: str) -> dict[str, Any]:
        """PSNR, SSIM of every victim, the class mean's, and the pictures."""
        settings, found = self._settings, []
        for victim in range(settings.victims):
            start = victim * size
            taken = [self._order[np.arange(start, start + size)]]
            others = self._order[settings.victims * size :]
            taken += [others[i * size : (i + 1) * size] for i in range(settings.clients - 1)]
            found.append(self._one(taken, protection, derive_seed(settings.seed, "inversion", victim, size)))
        names = found[0]
        return {name: np.concatenate([each[name] for each in found]) for name in names}

    def _one(self, taken: list[Any], protection: str, seed: int) -> dict[str, Any]:
        parts = [self._whole.subset(np.asarray(positions)) for positions in taken]
        with tempfile.TemporaryDirectory() as memory:
            step = observed_step(
                self._space.network, parts, self._cell.prepare, protection, self._settings, seed, Path(memory)
            )
        size = self._pixels.shape[-1]
        shape = (self.channels, size, size)
        guess = reconstructed(step.network, step.observed, self._inputs, shape, self._settings, seed).expand(
            -1, 3, -1, -1
        )
        truth, labels = self._pixels[taken[0]], self._whole.labels[taken[0]]
        guess = guess[_matched(guess, truth)]
        means = torch.stack([self._class_mean(label, taken[0]) for label in labels])
        return {
            "psnr": psnr(guess, truth).numpy(),
            "ssim": _ssim(guess, truth),
            "mean_psnr": psnr(means, truth).numpy(),
            "mean_ssim": _ssim(means, truth),
            "features": np.full(len(truth), self._features_error(step, truth)),
            "groups": self._whole.groups[taken[0]],
            "guess": guess.numpy(),
            "truth": truth.numpy(),
            "means": means.numpy(),
        }

    def _inputs(self, pixels: Tensor) -> Tensor:
        return self._space.inputs(pixels.expand(-1, 3, -1, -1))

    def _class_mean(self, label: int, left_out: Any) -> Tensor:
        same = np.setdiff1d(np.flatnonzero(self._whole.labels == label), left_out)
        return self._pixels[same].mean(0)

    def _features_error(self, step: Step, truth: Tensor) -> float:
        """Relative error of the last linear layer's inputs, which a batch of one shows exactly; NaN elsewhere."""
        given = features_of(step.observed.gradient, step.names)
        if given is None or len(truth) > 1:
            return float("nan")
        with torch.no_grad():
            maps = step.network.backbone(self._inputs(truth))  # type: ignore[operator]
        true = maps.flatten(2).mean(2)[0].numpy()
        return float(np.linalg.norm(given - true) / np.linalg.norm(true)) if true.shape == given.shape else float("nan")

    def picture(self, size: int, results: list[Any], path: Path) -> Path:
        """A row of victims, their class' mean images, then a row of reconstructions a protection."""
        mine = [found for batch, _, found in results if batch == size]
        lines = [mine[0]["truth"], mine[0]["means"], *(found["guess"] for found in mine)]
        sheet = np.concatenate([np.concatenate(list(line[:8]), axis=2) for line in lines], axis=1)
        pixels = (255 * sheet.transpose(1, 2, 0) + 0.5).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels).resize(
            (pixels.shape[1] * ENLARGED, pixels.shape[0] * ENLARGED), Image.Resampling.NEAREST
        )
        stored = io.BytesIO()
        image.save(stored, "PNG")
        write_bytes(path, stored.getvalue())
        return path


def _matched(guess: Tensor, truth: Tensor) -> Any:
    """The order in which reconstructions lie nearest to the victims: a batch has none, and the attack is not blamed."""
    distance = (guess[None] - truth[:, None]).square().mean(dim=(2, 3, 4))
    return torch.from_numpy(linear_sum_assignment(distance.numpy())[1])


def _ssim(images: Tensor, truth: Tensor) -> Any:
    found = structural_similarity_index_measure(images, truth, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.reshape(-1).numpy()


def _gain(found: dict[str, Any], settings: InversionSettings) -> Estimate:
    return mean(found["psnr"] - found["mean_psnr"], found["groups"], settings)


def _row(size: int, protection: str, found: dict[str, Any], settings: InversionSettings) -> dict[str, Any]:
    row: dict[str, Any] = {"batch": size, "protection": protection, "images": len(found["psnr"])}
    for name in ("psnr", "ssim", "mean_psnr", "mean_ssim"):
        row |= columns_of(name, mean(found[name], found["groups"], settings))
    row |= columns_of("gain", _gain(found, settings))
    return row | {"features_error": mean(found["features"], found["groups"], settings).value}
