"""The curvature of the loss: exact Hessians where they are small, Lanczos on Hessian-vector products where not.

The Hessian of a loss is no metric: it has negative eigenvalues wherever the network is not linear in its parameters,
and zero ones along every rescaling that leaves the function as it is. What can be said of it is its spectrum, and that
one depends on the parametrization.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.analyses.geometry.jacobian import softmax_factor
from bench.analyses.support.pixel_space import Function
from bench.core.errors import UserError
from bench.core.registry import import_extra

Product = Callable[[Tensor], Tensor]
"""H v for one vector [p], or for the columns of a matrix [p, m]."""

COLUMNS = 16
"""Products in one pass: bounds the memory of a dense Hessian."""


@dataclass(frozen=True)
class Hessian:
    """The Hessian of the mean cross entropy in some parameters, known by its products.

    Attributes:
        product: v [p] -> H v [p], or [p, m] -> [p, m].
        size: p.
        dtype: of the parameters.
    """

    product: Product
    size: int
    dtype: torch.dtype

    def dense(self) -> Tensor:
        """The matrix itself, by its columns, symmetrized against rounding: float64 [p, p]. For small p."""
        columns = [self.product(units) for units in torch.split(torch.eye(self.size, dtype=self.dtype), COLUMNS, dim=1)]
        matrix = torch.cat(columns, dim=1).double()
        return (matrix + matrix.T) / 2


def hessian(
    module: nn.Module, inputs: Tensor, labels: Tensor, names: Sequence[str] | None = None, batch: int = 16
) -> Hessian:
    """The Hessian of a module's mean cross entropy, by curvlinops' exact products (forward over reverse).

    Args:
        module: inputs [N, ...] -> logits [N, k], in the mode in which it is to be judged; it is not changed.
        labels: int64 [N].
        names: the parameters to look at, as `named_parameters` calls them; all where None, frozen ones included.
        batch: inputs in one pass; the result does not depend on it as long as the module treats each input alone.

    Raises:
        UserError: when curvlinops is not installed, or a name is not a parameter's.
    """
    operator_type = _operator_type()
    twin = copy.deepcopy(module).requires_grad_(True)
    parameters = dict(twin.named_parameters())
    wanted = list(parameters) if names is None else list(names)
    if unknown := [name for name in wanted if name not in parameters]:
        raise UserError(f"no parameter is called {unknown[0]!r}; they are {', '.join(list(parameters)[:5])}, ...")
    chosen = [parameters[name] for name in wanted]
    data = list(zip(torch.split(inputs, batch), torch.split(labels, batch), strict=True))
    operator = operator_type(twin, nn.CrossEntropyLoss(), chosen, data, check_deterministic=False)
    return Hessian(lambda vector: operator @ vector, sum(each.numel() for each in chosen), chosen[0].dtype)


def _operator_type() -> Any:
    return import_extra("curvlinops", "geometry", "the loss's curvature").HessianLinearOperator


def output_layer_spectrum(inputs: Tensor, logits: Tensor) -> NDArray[np.float64]:
    """The non-zero eigenvalues, falling, of the mean cross entropy's Hessian in a linear output layer and bias.

    That Hessian is the mean of (diag p - p p^T) x x^T (Kronecker), x the layer's input with a 1 for the bias: no labels
    enter it, and no eigenvalue is negative. They are those of an [N k, N k] Gram matrix, so that the layer may
    be as wide as it likes.

    Args:
        inputs: of the layer [N, d].
        logits: [N, k].
    """
    wide = F.pad(inputs.double(), (0, 1), value=1.0)
    factors = softmax_factor(logits.double().softmax(1))
    count, classes = logits.shape
    inner = torch.einsum("iac,jad->icjd", factors, factors)
    gram = inner * (wide @ wide.T)[:, None, :, None] / count
    values = torch.linalg.eigvalsh(gram.reshape(count * classes, count * classes)).flip(0).numpy()
    most = min(count * (classes - 1), wide.shape[1] * (classes - 1))
    kept: NDArray[np.float64] = values[:most].clip(min=0)
    return kept


def input_hessian_product(function: Function, image: Tensor, label: int, vector: Tensor) -> Tensor:
    """H v, H the Hessian of one image's cross entropy in its pixels, by differentiating twice; v in the image's shape.

    Where the network is affine around the image, H is the Fisher metric J^T (diag p - p p^T) J itself.

    Args:
        function: images [N, *shape] -> logits [N, k].
        image: [*shape].
        label: its class number.
        vector: v.
    """
    point = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(function(point[None]), torch.tensor([label], device=image.device))
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
        (product,) = torch.autograd.grad((gradient * vector.to(gradient)).sum(), point)
    return product


@dataclass(frozen=True)
class Spectrum:
    """A spectrum as weighted nodes: Gauss quadrature of the spectral density, or the eigenvalues themselves.

    Attributes:
        nodes: rising float64 [m].
        weights: share of the p eigenvalues that each node stands for; they sum to 1.
    """

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def exact(cls, eigenvalues: NDArray[np.float64]) -> Spectrum:
        """Of known eigenvalues [p]."""
        return cls(np.sort(eigenvalues), np.full(len(eigenvalues), 1 / len(eigenvalues)))

    def negative_share(self, tolerance: float = 1e-4) -> float:
        """The share of eigenvalues below -tolerance times the largest absolute one."""
        limit = -tolerance * np.abs(self.nodes).max()
        return float(self.weights[self.nodes < limit].sum())

    def negative_mass(self) -> float:
        """The negative part of the sum of absolute eigenvalues, 0 to 1; 0 for a matrix of zeros.

        Unlike the share it is not drowned by the eigenvalues near 0, which are most of them.
        """
        mass = self.weights * np.abs(self.nodes)
        return float(mass[self.nodes < 0].sum() / mass.sum()) if mass.sum() > 0 else 0.0

    def density(self, grid: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        """The density at the grid's values [g], each node a Gaussian of standard deviation `width`."""
        bumps = np.exp(-0.5 * ((grid[:, None] - self.nodes) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        found: NDArray[np.float64] = bumps @ self.weights
        return found


def lanczos(product: Product, size: int, steps: int, seed: int, dtype: torch.dtype = torch.float64) -> Spectrum:
    """Lanczos from a random vector: Ritz values and, as weights, the squared first components of their vectors.

    These are the nodes and weights of the Gauss quadrature of the density that the start vector sees (Golub and Welsch
    1969); the outermost nodes converge to the extreme eigenvalues. Every new vector is made orthogonal to all earlier
    ones, twice: without that, converged values come back as ghosts. Memory: `steps` vectors of `size`.

    Args:
        product: v [p] -> A v [p], A symmetric.
        size: p.
        steps: at most `size`; fewer are made where the vectors already span all that the start vector can reach.
        seed: of the start vector.
        dtype: of the vectors.
    """
    if not 1 <= steps <= size:
        raise UserError(f"Lanczos on a matrix of size {size} makes 1 to {size} steps, not {steps=}")
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
    basis = torch.zeros(steps, size, dtype=dtype)
    basis[0] = vector / vector.norm()
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(steps):
        image = product(basis[step]).to(dtype)
        diagonal.append(float(image @ basis[step]))
        image, length = _orthogonalized(image, basis[: step + 1])
        scale = max(map(abs, diagonal + beside))
        if step + 1 == steps or length <= 100 * torch.finfo(dtype).eps * max(scale, 1e-300):
            break
        beside.append(length)
        basis[step + 1] = image / length
    return _quadrature(diagonal, beside)


def _orthogonalized(vector: Tensor, basis: Tensor) -> tuple[Tensor, float]:
    """The vector without its part in the span of the basis' rows, and the length of what is left."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector, float(vector.norm())


def _quadrature(diagonal: list[float], beside: list[float]) -> Spectrum:
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    nodes, vectors = np.linalg.eigh(matrix)
    return Spectrum(nodes, vectors[0] ** 2)


def spectral_density(found: Hessian, steps: int, seeds: Sequence[int]) -> Spectrum:
    """Stochastic Lanczos quadrature (Lin, Saad and Yang 2016): the mean over one Lanczos run a seed.

    Args:
        found: the Hessian.
        steps: of each Lanczos run.
        seeds: of their start vectors.
    """
    runs = [lanczos(found.product, found.size, min(steps, found.size), seed, found.dtype) for seed in seeds]
    nodes = np.concatenate([run.nodes for run in runs])
    weights = np.concatenate([run.weights for run in runs]) / len(runs)
    order = np.argsort(nodes)
    return Spectrum(nodes[order], weights[order])
