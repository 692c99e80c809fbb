"""The pullback metric J^T J at an image: exact for few outputs, its top by a randomized method for many.

In evaluation mode a network of convolutions, BatchNorm and ReLU is affine in a neighbourhood of almost every image, so
its Jacobian J [d, n] is all that there is to know locally. J is never formed for a wide layer: a vector-Jacobian
product (VJP) costs a backward pass, a Jacobian-vector product (JVP) a forward one. Several products at one image are
one pass over a batch of copies of it, which is right as long as each output depends on its own input alone: BatchNorm
must be in evaluation mode.

Lengths are in the units of the function's argument: 0-1 pixels in the analysis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.analyses.support.pixel_space import Function
from bench.core.errors import UserError

PASS = 16
"""Copies of an image in one pass: bounds the memory."""


@dataclass(frozen=True)
class Metric:
    """The exact spectrum of a metric whose rank is at most k, the number of outputs.

    Attributes:
        eigenvalues: float64 [k], falling; the other n - k are exactly 0. Their roots are the singular values of J.
        top: unit eigenvector of the largest one, in the shape of the image; 0 where the metric vanishes.
    """

    eigenvalues: Tensor
    top: Tensor

    @property
    def stable_rank(self) -> float:
        """Sum of the eigenvalues over the largest: 1 for a metric of one direction, at most k; NaN where it is 0."""
        return float(self.eigenvalues.sum() / self.eigenvalues[0]) if self.eigenvalues[0] > 0 else float("nan")


def vjp(function: Function, image: Tensor, cotangents: Tensor) -> Tensor:
    """J^T v for each row of `cotangents` [m, d]: [m, *image.shape].

    Args:
        function: images [N, *shape] -> [N, d].
        image: [*shape].
    """
    parts = [_vjp(function, image, part) for part in torch.split(cotangents, PASS)]
    return torch.cat(parts)


def _vjp(function: Function, image: Tensor, cotangents: Tensor) -> Tensor:
    copies = image.detach().expand(len(cotangents), *image.shape).clone().requires_grad_()
    with torch.enable_grad():
        outputs = function(copies).flatten(1)
        (products,) = torch.autograd.grad(outputs, copies, cotangents.to(outputs))
    return products


def jvp(function: Function, image: Tensor, tangents: Tensor) -> Tensor:
    """J u for each of `tangents` [m, *image.shape], by forward differentiation: [m, d].

    Args:
        function: images [N, *shape] -> [N, d].
        image: [*shape].
    """
    parts = [_jvp(function, image, part) for part in torch.split(tangents, PASS)]
    return torch.cat(parts)


def _jvp(function: Function, image: Tensor, tangents: Tensor) -> Tensor:
    copies = image.detach().expand(len(tangents), *image.shape).clone()
    answers = torch.func.jvp(lambda batch: function(batch).flatten(1), (copies,), (tangents.to(copies),))
    products: Tensor = answers[1].detach()
    return products


def jacobian(function: Function, image: Tensor) -> Tensor:
    """All rows of J, one VJP an output: [d, *image.shape]. For few outputs."""
    with torch.no_grad():
        outputs = function(image[None]).flatten(1)
    return vjp(function, image, torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device))


def pullback(rows: Tensor) -> Metric:
    """The metric J^T J from the rows of J [k, *shape], through the k x k Gram matrix J J^T in float64."""
    return _metric(rows.flatten(1).double(), rows.shape[1:])


def fisher(rows: Tensor, probabilities: Tensor) -> Metric:
    """The Fisher metric J^T (diag p - p p^T) J of the class probabilities p [k], J the logits' rows [k, *shape].

    It is the pullback of the categorical distribution's Fisher information (Amari 1998), of rank k - 1 at most: a
    change of all logits alike changes no probability.
    """
    factor = softmax_factor(probabilities.double())
    return _metric(factor.T @ rows.flatten(1).double(), rows.shape[1:])


def softmax_factor(probabilities: Tensor) -> Tensor:
    """B [..., k, k] with B B^T = diag p - p p^T, for p [..., k]: B = diag(sqrt p) - p sqrt(p)^T."""
    roots = probabilities.sqrt()
    return torch.diag_embed(roots) - probabilities[..., :, None] * roots[..., None, :]


def _metric(rows: Tensor, shape: torch.Size) -> Metric:
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    top = vectors[:, -1] @ rows
    length = top.norm()
    direction = top / length if length > 0 else top
    return Metric(values.flip(0).clamp_min(0), direction.reshape(shape))


def top_singular_values(
    function: Function, image: Tensor, count: int, seed: int, oversampling: int = 10, iterations: int = 4
) -> Tensor:
    """The `count` largest singular values of J [d, n], falling: float64 [count].

    Randomized subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4) with one JVP and one VJP of
    `count + oversampling` vectors an iteration. What it finds never exceeds the true values.

    Args:
        function: images [N, *shape] -> [N, d].
        image: [*shape].
        count: of the values.
        seed: of the random start.
        oversampling: vectors beyond `count`, which make the last values surer.
        iterations: of the subspace.

    Raises:
        UserError: when J has fewer than `count` singular values.
    """
    with torch.no_grad():
        width = function(image[None]).numel()
    size = image.numel()
    if not 1 <= count <= min(width, size):
        raise UserError(f"a Jacobian of {width} x {size} has no {count} singular values")
    block = min(count + oversampling, width, size)
    tangents = _drawn((block, size), seed, image)
    for _ in range(iterations):
        images = _orthonormal(jvp(function, image, tangents.reshape(-1, *image.shape)))
        tangents = _orthonormal(vjp(function, image, images).flatten(1))
    images = jvp(function, image, tangents.reshape(-1, *image.shape))
    values: Tensor = torch.linalg.svdvals(images.double())
    return values[:count]


def _drawn(shape: tuple[int, ...], seed: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows' span, as rows."""
    basis: Tensor = torch.linalg.qr(rows.T).Q.T
    return basis


def squared_norm(function: Function, image: Tensor, samples: int, seed: int) -> tuple[float, float]:
    """The sum of the squared singular values of J and its standard error.

    Hutchinson's estimator (1990): E |J^T v|^2 over random signs v. The error is 0 for a function of one output.

    Args:
        function: images [N, *shape] -> [N, d].
        image: [*shape].
        samples: sign vectors, two or more.
        seed: of the signs.
    """
    if samples < 2:
        raise UserError(f"a standard error needs two samples or more, not {samples=}")
    with torch.no_grad():
        width = function(image[None]).numel()
    signs = _drawn((samples, width), seed, image).sign()
    squares = vjp(function, image, signs).flatten(1).double().square().sum(1)
    return float(squares.mean()), float(squares.std() / samples**0.5)


def angle(first: Tensor, second: Tensor) -> float:
    """The angle between two directions, whose signs mean nothing: degrees, 0 to 90; NaN for a zero vector."""
    lengths = first.double().norm() * second.double().norm()
    if not lengths > 0:
        return float("nan")
    cosine = (first.double() * second.double()).sum().abs() / lengths
    return float(torch.rad2deg(torch.acos(cosine.clamp(max=1))))
