"""Lengths of curves between two images, and the path of least energy in the space that a function maps to.

The pullback metric is degenerate (its rank is at most the number of outputs): many directions have length 0, so its
geodesics are not unique and its distance is a pseudo-distance. What is well defined is the length of a given curve's
image, and a curve of least energy near the straight one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.analyses.support.pixel_space import Function
from bench.core.errors import UserError


@dataclass(frozen=True)
class Curve:
    """A curve's image under a function.

    Attributes:
        length: of the polyline through the images of its points.
        chord: the straight distance between the images of its ends.
        energy: (points - 1) times the sum of the squared steps; at least the squared length, equal for even steps.
    """

    length: float
    chord: float
    energy: float

    @property
    def ratio(self) -> float:
        """Length over chord, 1 or more: 1 for a straight image; NaN where both ends are mapped to one."""
        return self.length / self.chord if self.chord > 0 else float("nan")


def segment(start: Tensor, end: Tensor, points: int) -> Tensor:
    """The straight line in `points` even steps, both ends included: [points, *shape].

    Args:
        start, end: of one shape.
        points: two or more.
    """
    if points < 2:
        raise UserError(f"a path has two points or more, not {points=}")
    shares = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)
    return torch.lerp(start, end, shares.reshape(-1, *[1] * start.ndim))


def curve(function: Function, path: Tensor) -> Curve:
    """Length, chord and energy of the image of a path [points, *shape]."""
    with torch.no_grad():
        mapped = function(path).flatten(1).double()
    steps = mapped.diff(dim=0).norm(dim=1)
    return Curve(float(steps.sum()), float((mapped[-1] - mapped[0]).norm()), _energy(mapped).item())


def _energy(mapped: Tensor) -> Tensor:
    return (len(mapped) - 1) * mapped.diff(dim=0).square().sum()


def least_energy_path(function: Function, path: Tensor, steps: int = 50) -> Tensor:
    """The path with the same ends whose image has the least energy, found from `path` [points, *shape] by L-BFGS.

    A minimiser is a discrete geodesic of the pullback metric with even steps (Shao, Kumar and Fletcher 2018). A local
    one is found: the straight line is the usual start.

    Args:
        function: images [N, *shape] -> [N, d].
        steps: L-BFGS iterations at most.
    """
    if len(path) < 3:
        raise UserError(f"a path of {len(path)} points has none that could move; it needs three or more")
    # L-BFGS views parameters and gradients as vectors, which those in channels-last order cannot be.
    inner = path[1:-1].detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    unit = _energy(function(path.detach()).flatten(1)).detach()
    if not unit > 0:
        return path
    # The optimizer's tolerances are absolute: energies are counted in the start's own.
    optimizer = torch.optim.LBFGS([inner], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        with torch.enable_grad():
            energy = _energy(function(_joined(path, inner)).flatten(1)) / unit
            (gradient,) = torch.autograd.grad(energy, inner)
        inner.grad = gradient.contiguous()
        return energy.item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = _joined(path, inner).detach()
    # Behind kinks the line search may leave a step that helped nothing.
    return found if curve(function, found).energy <= curve(function, path).energy else path


def _joined(path: Tensor, inner: Tensor) -> Tensor:
    return torch.cat([path[:1], inner, path[-1:]])
