"""A finished network as a function of 0-1 pixels: lengths and radii have one unit, whatever the normalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.core.errors import UserError

Function = Callable[[Tensor], Tensor]
"""A batch [N, ...] -> a batch [N, d] or [N, d, ...]; each output depends on its own input alone."""


@dataclass(frozen=True)
class PixelSpace:
    """A network in evaluation mode, asked with pixels [N, 3, H, W] in 0-1.

    Attributes:
        network: has `backbone` and `head`.
        black, white: the network's input for a black and for a white image [1, 3, 1, 1].
    """

    network: nn.Module
    black: Tensor
    white: Tensor

    def inputs(self, pixels: Tensor) -> Tensor:
        """What the network is given for these pixels."""
        return self.black.to(pixels) + pixels * (self.white - self.black).to(pixels)

    def maps(self, pixels: Tensor) -> Tensor:
        """The backbone's map [N, C, h, w]."""
        feature_map: Tensor = self.network.backbone(self.inputs(pixels))  # type: ignore[operator]
        return feature_map

    def features(self, pixels: Tensor) -> Tensor:
        """The map's means over its positions [N, C]."""
        feature_map = self.maps(pixels)
        return feature_map.flatten(2).mean(2) if feature_map.ndim > 2 else feature_map

    def logits(self, pixels: Tensor) -> Tensor:
        """The logits [N, k].

        Not `network(...)`: the forward of a network whose backbone was frozen in training stops the gradient there,
        which would leave the input without one.
        """
        logits: Tensor = self.network.head(self.maps(pixels))  # type: ignore[operator]
        return logits

    def pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 [N, H, W, 3] as 0-1 pixels [N, 3, H, W], of the type and on the device of the network's input."""
        return torch.from_numpy(images.copy()).movedim(-1, 1).to(self.black) / 255


def pixel_space(network: nn.Module, prepare: Callable[[Any], Tensor], size: int) -> PixelSpace:
    """The network as a function of pixels, its normalization read off what `prepare` makes of plain gray images.

    Args:
        network: has `backbone` and `head`; it must be in evaluation mode.
        prepare: uint8 images [N, H, W, 3] -> the network's input.
        size: side of the images, pixels.

    Raises:
        UserError: where the preparation is not one affine map of each colour, so that no unit of pixels exists.
    """
    if network.training:
        raise UserError("the network is in training mode, where an image's answer depends on its batch; call eval()")
    levels = np.array([0, 255, 128], dtype=np.uint8)[:, None, None, None]
    prepared = prepare(np.broadcast_to(levels, (3, size, size, 3)).copy())
    black, white, gray = torch.split(prepared, 1)
    expected = black + (white - black) * (128 / 255)
    flat = black.amax((2, 3)) - black.amin((2, 3)) + white.amax((2, 3)) - white.amin((2, 3))
    if not torch.allclose(gray, expected, atol=1e-4) or flat.max() > 1e-6:
        raise UserError("the preparation of images is no affine map of each colour; distances in pixels are undefined")
    return PixelSpace(network, black[..., :1, :1].clone(), white[..., :1, :1].clone())
