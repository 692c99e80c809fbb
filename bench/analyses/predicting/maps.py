"""Where a network looks on new images, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.analyses.explanations.attribution import layer_cam_of
from bench.analyses.explanations.overlay import overlay
from bench.analyses.explanations.settings import ExplanationsSettings
from bench.analyses.support.pictures import write_png
from bench.analyses.support.pixel_space import pixel_space
from bench.core.errors import UserError


def write_maps(predictor: Any, images: NDArray[np.uint8], classes: NDArray[np.int64], paths: Sequence[Path]) -> None:
    """Write LayerCAM laid over images, a PNG each.

    Args:
        predictor: what answered; it must have a network.
        images: uint8 [N, H, W, 3].
        classes: the class that each map is for [N].
        paths: of the N files; their folders are made.

    Raises:
        UserError: a predictor without a network.
    """
    network = getattr(predictor, "network", None)
    if network is None:
        raise UserError("heat maps follow the network's gradients, and this cell's predictor has no network")
    space = pixel_space(network, predictor.prepare, images.shape[1])
    explain = layer_cam_of(ExplanationsSettings().stride)
    pixels = space.pixels(images)
    found = explain(space, pixels, torch.from_numpy(classes).to(pixels.device)).detach().cpu().double().numpy()
    for image, attribution, path in zip(images, found, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(Image.fromarray(overlay(image, attribution, None)), path)
