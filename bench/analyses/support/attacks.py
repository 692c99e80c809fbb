"""Projected gradient descent: the worst change of an image within a radius that a first-order search finds."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bench.analyses.support.pixel_space import Function
from bench.core.errors import UserError

Norm = Literal["l2", "linf"]


def pgd(
    logits: Function,
    pixels: Tensor,
    labels: Tensor,
    radius: float | Tensor,
    norm: Norm,
    steps: int,
    seed: int,
    targets: Tensor | None = None,
) -> Tensor:
    """Adversarial images within `radius` of `pixels` and within 0-1 (Madry et al. 2018).

    Each step climbs the lead of the target's logit over the label's (Carlini and Wagner 2017: a cross entropy has no
    gradient left where the softmax is saturated) by 2.5 radius / steps along the gradient (its sign under "linf"), and
    is projected back onto the ball and the box of 0-1. It starts at a random point of the ball. An image's answer is
    the first point found that is classified otherwise, the last one where none is.

    Args:
        logits: pixels [N, C, H, W] -> [N, k].
        pixels: 0-1 [N, C, H, W].
        labels: the classes to get away from, int64 [N].
        radius: of the ball, in 0-1 pixels: one, or one an image [N].
        seed: of the starting points, which depend on nothing else.
        targets: the classes to lead up to, int64 [N]; the best other one at each step where None.

    Returns:
        Images [N, C, H, W]; those at radius 0 are the given ones.

    Raises:
        UserError: for a negative radius, no step, or an unknown norm.
    """
    radii = torch.as_tensor(radius, dtype=pixels.dtype, device=pixels.device).expand(len(pixels))
    if steps < 1 or norm not in ("l2", "linf") or bool((radii < 0).any()):
        raise UserError(
            f"an attack needs a radius of 0 or more, one step or more and l2 or linf; got {steps=}, {norm=}"
        )
    radii = radii.reshape(-1, *[1] * (pixels.ndim - 1))
    change = _limited(_start(pixels, norm, seed) * radii, pixels, radii, norm)
    best, found = pixels + change, torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    for _ in range(steps):
        gradient, wrong = _climb(logits, pixels + change, labels, targets)
        best = torch.where(_like(wrong & ~found, pixels), pixels + change, best)
        found |= wrong
        moved = change + _unit(gradient, norm) * radii * (2.5 / steps)
        change = _limited(moved, pixels, radii, norm)
    return torch.where(_like(found, pixels), best, pixels + change)


def _climb(logits: Function, pixels: Tensor, labels: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gradient of the lead over the label's logit, and which images are classified otherwise already [N]."""
    pixels = pixels.detach().requires_grad_()
    with torch.enable_grad():
        outputs = logits(pixels)
        own = labels[:, None]
        others = outputs.detach().scatter(1, own, -torch.inf)
        rivals = (others.argmax(1) if targets is None else targets)[:, None]
        lead = outputs.gather(1, rivals) - outputs.gather(1, own)
        (gradient,) = torch.autograd.grad(lead.sum(), pixels)
    return gradient, others.amax(1) > outputs.detach().gather(1, own)[:, 0]


def _start(pixels: Tensor, norm: Norm, seed: int) -> Tensor:
    """A random point of the unit ball for each image."""
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return (torch.rand(pixels.shape, generator=generator, dtype=torch.float64) * 2 - 1).to(pixels)
    drawn = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    shrunk = torch.rand((len(pixels), *[1] * (pixels.ndim - 1)), generator=generator, dtype=torch.float64)
    return (_unit(drawn, "l2") * shrunk).to(pixels)


def _unit(vectors: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return vectors.sign()
    return vectors / _lengths(vectors).clamp_min(torch.finfo(vectors.dtype).tiny)


def _limited(change: Tensor, pixels: Tensor, radii: Tensor, norm: Norm) -> Tensor:
    """Projected onto the ball, then onto the box: the box only shortens a change, so the ball still holds it."""
    if norm == "linf":
        inside = torch.maximum(torch.minimum(change, radii), -radii)
    else:
        lengths = _lengths(change)
        inside = change * torch.where(lengths > radii, radii / lengths.clamp_min(torch.finfo(change.dtype).tiny), 1)
    limited: Tensor = (pixels + inside).clamp(0, 1) - pixels
    return limited


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = vectors.flatten(1).norm(dim=1).reshape(-1, *[1] * (vectors.ndim - 1))
    return lengths


def _like(flags: Tensor, pixels: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (pixels.ndim - 1))
