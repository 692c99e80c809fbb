"""The pullback metric against matrices that are known, and against the whole Jacobian in float64."""

import pytest
import torch
from torch import nn

from bench.analyses.geometry import jacobian as J
from bench.analyses.geometry.curvature import input_hessian_product
from bench.core.errors import UserError
from models.registry import MODELS

WEIGHT = torch.randn(5, 3 * 4 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
IMAGES = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def linear(images):
    return images.flatten(1) @ WEIGHT.T


@pytest.fixture(scope="module")
def network():
    """MobileNetV2 with DeepMediX's head and invented BatchNorm statistics, float64, in evaluation mode."""
    torch.manual_seed(0)
    built = MODELS.get("deepmedix").build(3).double()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return built.eval()


@pytest.fixture(scope="module")
def image():
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def plain(hidden=12):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, hidden), nn.ReLU(), nn.Linear(hidden, 4)).double()


def whole_jacobian(function, image):
    return torch.autograd.functional.jacobian(lambda x: function(x[None])[0], image).flatten(1)


@pytest.mark.parametrize("index", range(3))
def test_a_linear_function_has_the_singular_values_of_its_matrix_everywhere(index):
    metric = J.pullback(J.jacobian(linear, IMAGES[index]))
    _, values, right = torch.linalg.svd(WEIGHT, full_matrices=False)
    torch.testing.assert_close(metric.eigenvalues.sqrt(), values, rtol=1e-10, atol=0)
    assert abs(float(metric.top.flatten() @ right[0])) == pytest.approx(1, abs=1e-12)
    assert metric.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2))


def test_the_spectrum_is_that_of_the_whole_jacobian(network, image):
    rows = J.jacobian(network, image)
    whole = whole_jacobian(network, image)
    torch.testing.assert_close(rows.flatten(1), whole, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(
        J.pullback(rows).eigenvalues, torch.linalg.svdvals(whole).square(), rtol=1e-8, atol=1e-16
    )


def adjoint_gap(function, image, seed):
    """How far <J u, v> and <u, J^T v> are apart for random u and v, relative to |J u| |v|: 0 but for rounding."""
    generator = torch.Generator().manual_seed(seed)
    tangent = torch.randn((1, *image.shape), generator=generator, dtype=image.dtype)
    forward = J.jvp(function, image, tangent)
    cotangent = torch.randn(forward.shape, generator=generator, dtype=image.dtype)
    backward = J.vjp(function, image, cotangent)
    gap = (forward * cotangent).sum() - (tangent * backward).sum()
    return float(gap.abs() / (forward.norm() * cotangent.norm()))


def test_forward_and_backward_products_are_adjoint(network, image):
    assert adjoint_gap(network, image, seed=0) < 1e-10
    assert adjoint_gap(network.backbone, image, seed=1) < 1e-10


def test_the_randomized_top_is_that_of_the_whole_jacobian():
    net = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2), nn.ReLU(), nn.Conv2d(40, 30, 3), nn.Flatten()).double()
    image = torch.rand(3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    exact = torch.linalg.svdvals(whole_jacobian(net, image))[:10]
    found = J.top_singular_values(net, image, 10, seed=0, iterations=8)
    torch.testing.assert_close(found, exact, rtol=5e-3, atol=0)
    assert (found <= exact * (1 + 1e-12)).all()
    torch.testing.assert_close(found, J.top_singular_values(net, image, 10, seed=0, iterations=8))


def test_more_singular_values_than_there_are_is_a_mistake():
    with pytest.raises(UserError, match="5 x 48 has no 6 singular values"):
        J.top_singular_values(linear, IMAGES[0], 6, seed=0)


def test_the_sum_of_squares_is_hutchinsons_estimate_within_its_error(network, image):
    def features(images):
        return network.backbone(images).mean((2, 3))[:, :60]

    rows = whole_jacobian(features, image)
    exact = float(torch.linalg.svdvals(rows).square().sum())
    found, error = J.squared_norm(features, image, 32, seed=0)
    assert 0 < error < 0.3 * exact
    assert abs(found - exact) < 3 * error


def test_the_softmax_has_one_rank_less_than_classes_and_fisher_is_its_metric():
    net, image = plain(), IMAGES[0]
    rows = J.jacobian(net, image)
    probabilities = net(image[None])[0].detach().softmax(0)
    metric = J.fisher(rows, probabilities)
    middle = torch.diag(probabilities) - torch.outer(probabilities, probabilities)
    whole = rows.flatten(1).T @ middle @ rows.flatten(1)
    expected = torch.linalg.eigvalsh(whole).flip(0)[:4]
    torch.testing.assert_close(metric.eigenvalues, expected, rtol=1e-9, atol=1e-15)
    assert metric.eigenvalues[3] < 1e-14 * metric.eigenvalues[0] < metric.eigenvalues[2]
    softmax = J.pullback(J.jacobian(lambda x: net(x).softmax(1), image))
    assert softmax.eigenvalues[3] < 1e-14 * softmax.eigenvalues[0] < softmax.eigenvalues[2]
    assert float(metric.top.flatten() @ whole @ metric.top.flatten()) == pytest.approx(float(expected[0]))


@pytest.mark.parametrize("smooth", [False, True])
def test_the_input_hessian_by_finite_differences_of_the_gradient(smooth):
    net = plain()
    net[2] = nn.Softplus() if smooth else nn.ReLU()
    image, label, step = IMAGES[1], 2, 1e-5
    vector = torch.randn(image.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def gradient(x):
        x = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net(x[None]), torch.tensor([label]))
        return torch.autograd.grad(loss, x)[0]

    differences = (gradient(image + step * vector) - gradient(image - step * vector)) / (2 * step)
    found = input_hessian_product(net, image, label, vector)
    torch.testing.assert_close(found, differences, rtol=1e-5, atol=1e-8)

    rows, p = J.jacobian(net, image).flatten(1), net(image[None])[0].softmax(0)
    through_fisher = rows.T @ (torch.diag(p) - torch.outer(p, p)) @ rows @ vector.flatten()
    gap = (found.flatten() - through_fisher).norm() / found.norm()
    assert (gap > 1e-3) if smooth else (gap < 1e-12)


def test_an_angle_knows_no_sign():
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, -1.0])
    assert J.angle(first, second) == pytest.approx(45)
    assert J.angle(first, -first) == pytest.approx(0, abs=1e-6)
    assert torch.isnan(torch.tensor(J.angle(first, 0 * first)))
