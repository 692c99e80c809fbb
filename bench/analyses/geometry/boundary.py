"""How far an image is from the decision boundary: by the first-order formula, and by what an attack needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.analyses.support.attacks import pgd
from bench.analyses.support.pixel_space import Function


@dataclass(frozen=True)
class Margin:
    """The nearest boundary of the network's linear part at an image.

    Attributes:
        distance: L2, in the units of the Jacobian's columns; infinite where no change of the input changes a margin.
        rival: the class on the other side.
        direction: the unit vector towards it, in the shape of the image.
    """

    distance: float
    rival: int
    direction: Tensor


def first_order_margin(logits: Tensor, rows: Tensor) -> Margin:
    """The distance min_j (z_c - z_j) / |grad (z_c - z_j)| from the predicted class c (DeepFool's step, 2016).

    Exact for a linear network; for a piecewise affine one it is exact as long as the boundary lies in the region of
    the image.

    Args:
        logits: [k].
        rows: the logits' Jacobian [k, *shape].
    """
    predicted = int(logits.argmax())
    slopes = (rows - rows[predicted]).double()
    lengths = slopes.flatten(1).norm(dim=1)
    distances = torch.where(lengths > 0, (logits[predicted] - logits).double() / lengths, torch.inf)
    distances[predicted] = torch.inf
    rival = int(distances.argmin())
    length = lengths[rival]
    return Margin(float(distances[rival]), rival, slopes[rival] / length if length > 0 else slopes[rival])


def attack_norms(
    logits: Function,
    pixels: Tensor,
    starts: Tensor,
    rivals: Tensor,
    seed: int,
    steps: int = 20,
    halvings: int = 7,
    most: float = 64.0,
) -> Tensor:
    """The smallest L2 norm at which PGD changes each image's decision: an upper bound of the true distance [N].

    The radius starts at `starts` [N], is doubled until the attack succeeds (up to `most` times the start) and is
    then halved in on; the norm of the shortest success is returned, infinite where none was found.

    Args:
        logits: pixels [N, C, H, W] -> [N, k].
        pixels: 0-1 [N, C, H, W].
        starts: first guesses, 0-1 pixels [N]: the first-order distances.
        rivals: the classes to lead up to [N]: those on the other side of the first-order boundary. The class of the
            second-best logit is often farther away.
        seed: of its random start.
        steps: of one attack.
        halvings: steps of the bisection; the answer is then within 2 ** -halvings of the smallest radius that works.
    """

    def reach(radii: Tensor) -> Tensor:
        return _success(logits, pixels, radii, rivals, steps, seed)

    low, high = torch.zeros_like(starts), starts.clone()
    norms = torch.full_like(starts, torch.inf)
    growth = 1.0
    while growth < most and bool(torch.isinf(norms).any()):
        norms = torch.minimum(norms, reach(high))
        open_ = torch.isinf(norms)
        low, high = torch.where(open_, high, low), torch.where(open_, high * 2, torch.minimum(high, norms))
        growth *= 2
    for _ in range(halvings):
        middle = (low + high) / 2
        reached = reach(middle)
        norms = torch.minimum(norms, reached)
        low, high = torch.where(torch.isinf(reached), middle, low), torch.where(torch.isinf(reached), high, middle)
    return norms


def _success(logits: Function, pixels: Tensor, radii: Tensor, rivals: Tensor, steps: int, seed: int) -> Tensor:
    """The norm of each image's change, infinite where the decision stays or the radius is not finite."""
    with torch.no_grad():
        predicted = logits(pixels).argmax(1)
    finite = torch.where(torch.isfinite(radii), radii, 0)
    attacked = pgd(logits, pixels, predicted, finite, "l2", steps, seed, rivals)
    with torch.no_grad():
        changed = logits(attacked).argmax(1) != predicted
    norms = (attacked - pixels).flatten(1).norm(dim=1)
    return torch.where(changed, norms, torch.inf)
