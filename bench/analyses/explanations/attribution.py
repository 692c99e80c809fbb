"""How much each pixel speaks for a class: LayerCAM and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.analyses.geometry.layers import blocks, recorded
from bench.analyses.support.pixel_space import PixelSpace
from bench.core.errors import UserError

Explainer = Callable[[PixelSpace, Tensor, Tensor], Tensor]
"""(network, pixels [N, 3, H, W], class numbers [N]) -> attribution [N, H, W], not negative."""


def layer_cam_of(stride: int) -> Explainer:
    """LayerCAM (Jiang et al. 2021) at the last block whose map is no coarser than a stride.

    The map's activations are weighted by the positive part of their own gradients, summed over channels, and enlarged
    bilinearly.
    """

    def explain(space: PixelSpace, pixels: Tensor, classes: Tensor) -> Tensor:
        block = block_at(space, pixels[:1], stride)
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            kept.append(output)
            # The next layer may work in place, which must not touch what is kept.
            return output.clone()

        handle = block.register_forward_hook(keep)
        try:
            score = _score(space, pixels.detach().requires_grad_(), classes)
        finally:
            handle.remove()
        (activation,) = kept
        (gradient,) = torch.autograd.grad(score, activation)
        found = (gradient.clamp(min=0) * activation.detach()).sum(1, keepdim=True).clamp(min=0)
        enlarged = F.interpolate(found, pixels.shape[-2:], mode="bilinear", align_corners=False)
        return enlarged[:, 0]

    return explain


def block_at(space: PixelSpace, pixels: Tensor, stride: int) -> nn.Module:
    """The backbone's last block whose map has at least one position in every `stride` pixels.

    Raises:
        UserError: no block's map is that fine.
    """
    stages = dict(blocks(space.network.backbone))  # type: ignore[arg-type]
    with torch.no_grad(), recorded(stages) as kept:
        space.maps(pixels)
    side = pixels.shape[-1] / stride
    fine = [name for name, (_, output) in kept.items() if output.ndim == 4 and output.shape[-1] >= side]
    if not fine:
        raise UserError(
            f"no block of the backbone has a map of stride {stride} or finer; set explanations.stride higher"
        )
    return stages[fine[-1]]


def integrated_gradients_of(steps: int) -> Explainer:
    """Integrated gradients (Sundararajan et al. 2017) from the image's own mean colour, by midpoints.

    A black baseline would call dark lesions unimportant, since a pixel's share is multiplied by its distance to the
    baseline. Shares of the three colours are added, and their absolute value is taken.
    """

    def explain(space: PixelSpace, pixels: Tensor, classes: Tensor) -> Tensor:
        return integrated(space, pixels, classes, steps).sum(1).abs()

    return explain


def integrated(space: PixelSpace, pixels: Tensor, classes: Tensor, steps: int) -> Tensor:
    """Signed shares of every value [N, 3, H, W]; they sum to the class' centred logit less the mean colour's.

    Args:
        space: the network as a function of pixels.
        pixels: the images, 0 to 1 [N, 3, H, W].
        classes: the class that each is explained for [N].
        steps: points on each image's line from its mean colour.
    """
    baseline = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    total = torch.zeros_like(pixels)
    for step in range(steps):
        point = (baseline + (step + 0.5) / steps * (pixels - baseline)).detach().requires_grad_()
        total += torch.autograd.grad(_score(space, point, classes), point)[0]
    return total / steps * (pixels - baseline)


def centred(logits: Tensor) -> Tensor:
    """Logits [N, k] less their mean: what is added to all of them changes no probability, and must explain none."""
    return logits - logits.mean(1, keepdim=True)


def _score(space: PixelSpace, pixels: Tensor, classes: Tensor) -> Tensor:
    """The sum of the classes' centred logits: images do not depend on each other, so its gradient is each one's own."""
    with torch.enable_grad():
        return centred(space.logits(pixels)).gather(1, classes[:, None]).sum()


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose every parameter tensor is shuffled (Adebayo et al. 2018): the same values, nothing learned."""
    import copy

    generator = torch.Generator().manual_seed(seed)
    shuffled = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in shuffled.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return shuffled.eval()
