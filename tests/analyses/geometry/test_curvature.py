"""Curvature against Hessians in closed form, known spectra, and the scaling that BatchNorm undoes."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.analyses.geometry.curvature import Spectrum, hessian, lanczos, output_layer_spectrum, spectral_density
from bench.core.errors import UserError

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(30, 6, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(0, 3, (30,), generator=GENERATOR)


def layer(classes=3):
    torch.manual_seed(1)
    return nn.Linear(6, classes).double()


def test_logistic_regressions_hessian_is_x_d_x_over_n():
    """Two classes whose first logit is held at 0: the second row's block is X^T diag(p (1 - p)) X / n."""
    net = layer(2)
    with torch.no_grad():
        net.weight[0] = 0
        net.bias[0] = 0
    found = hessian(net, INPUTS, LABELS % 2, ["weight"], batch=7).dense().numpy()
    x = INPUTS.numpy()
    p = 1 / (1 + np.exp(-(x @ net.weight[1].detach().numpy() + net.bias[1].item())))
    expected = x.T @ np.diag(p * (1 - p)) @ x / len(x)
    np.testing.assert_allclose(found[6:, 6:], expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found[:6, 6:], -expected, rtol=1e-10, atol=1e-14)


def test_the_output_layers_spectrum_is_that_of_its_dense_hessian():
    net = layer()
    dense = torch.linalg.eigvalsh(hessian(net, INPUTS, LABELS).dense()).flip(0).numpy()
    found = output_layer_spectrum(INPUTS, net(INPUTS).detach())
    assert len(found) == 7 * 2
    np.testing.assert_allclose(found, dense[:14], rtol=1e-8, atol=1e-14)
    assert np.abs(dense[14:]).max() < 1e-12


def test_a_hidden_layer_makes_the_hessian_indefinite_and_it_is_autograds():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    frozen = [p.requires_grad_(False) for p in net.parameters()]
    found = hessian(net, INPUTS, LABELS, batch=11).dense()
    shapes = [p.shape for p in frozen]

    def loss(flat):
        parts = flat.split([s.numel() for s in shapes])
        a, b, c, d = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
        return F.cross_entropy(torch.tanh(INPUTS @ a.T + b) @ c.T + d, LABELS)

    flat = torch.cat([p.flatten() for p in frozen])
    expected = torch.autograd.functional.hessian(loss, flat)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    assert torch.linalg.eigvalsh(found)[0] < -1e-4
    assert not any(p.requires_grad for p in net.parameters())


def convolutional(scale):
    """A convolution before BatchNorm whose statistics follow its scale, as re-estimated ones would."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 2, 3, bias=False), nn.BatchNorm2d(2, eps=1e-30), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 9, 3)
    ).double()
    with torch.no_grad():
        net[1].running_mean.normal_(0, 0.3)
        net[1].running_var.uniform_(0.5, 2)
        net[0].weight *= scale
        net[1].running_mean *= scale
        net[1].running_var *= scale**2
    return net


@pytest.mark.parametrize("training", [False, True])
def test_scaling_a_convolution_before_batchnorm_leaves_the_function_and_divides_its_hessian(training):
    images = torch.rand(5, 3, 5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    plain, scaled = convolutional(1).train(training), convolutional(3).train(training)
    if training:  # batch statistics follow the scale by themselves; running ones are not touched
        for net in (plain, scaled):
            net[1].track_running_stats, net[1].running_mean, net[1].running_var = False, None, None
    torch.testing.assert_close(plain(images), scaled(images), rtol=1e-12, atol=1e-12)
    blocks = [hessian(net, images, labels, ["0.weight"]).dense() for net in (plain, scaled)]
    torch.testing.assert_close(blocks[0] / 9, blocks[1], rtol=1e-9, atol=1e-13)
    others = [hessian(net, images, labels, ["4.weight"]).dense() for net in (plain, scaled)]
    torch.testing.assert_close(others[0], others[1], rtol=1e-9, atol=1e-13)


def known(values):
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=GENERATOR, dtype=torch.float64))
    matrix = basis @ torch.diag(values) @ basis.T
    return lambda vector: matrix @ vector


def test_lanczos_finds_a_known_spectrum():
    values = torch.linspace(-1, 3, 12, dtype=torch.float64)
    found = lanczos(known(values), 12, 12, seed=0)
    np.testing.assert_allclose(found.nodes, values.numpy(), atol=1e-9)
    assert found.weights.sum() == pytest.approx(1)


def test_a_few_steps_find_the_ends_and_the_moments():
    values = torch.cat([torch.tensor([-5.0, 20.0], dtype=torch.float64), torch.linspace(-1, 1, 298).double()])
    product = known(values)
    found = lanczos(product, 300, 25, seed=1)
    assert found.nodes[-1] == pytest.approx(20, abs=1e-8)
    assert found.nodes[0] == pytest.approx(-5, abs=1e-8)
    start = torch.randn(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start /= start.norm()
    assert found.weights @ found.nodes == pytest.approx(float(start @ product(start)))


def test_lanczos_stops_where_nothing_is_left_to_find():
    found = lanczos(lambda vector: 2 * vector, 50, 10, seed=0)
    assert found.nodes == pytest.approx([2])
    assert found.weights == pytest.approx([1])
    rank_two = lanczos(known(torch.tensor([4.0, 1.0, *[0.0] * 48], dtype=torch.float64)), 50, 10, seed=0)
    np.testing.assert_allclose(np.sort(rank_two.nodes)[-2:], [1, 4], atol=1e-9)
    assert len(rank_two.nodes) <= 4
    with pytest.raises(UserError, match="1 to 50 steps"):
        lanczos(lambda vector: vector, 50, 51, seed=0)


def test_share_and_mass_of_the_negative_part():
    exact = Spectrum.exact(np.array([3.0, -1.0, 0.0, -1e-9]))
    assert exact.negative_share() == pytest.approx(0.25)
    assert exact.negative_mass() == pytest.approx(1 / 4)
    assert Spectrum.exact(np.zeros(3)).negative_mass() == 0
    grid = np.linspace(-3, 5, 4001)
    assert exact.density(grid, 0.2).sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-3)


def test_the_density_of_a_network_sees_the_negative_part_of_its_dense_hessian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    operator = hessian(net, INPUTS, LABELS)
    exact = Spectrum.exact(torch.linalg.eigvalsh(operator.dense()).numpy())
    found = spectral_density(operator, 20, seeds=range(4))
    assert found.nodes[-1] == pytest.approx(exact.nodes[-1], rel=1e-6)
    assert found.nodes[0] == pytest.approx(exact.nodes[0], rel=1e-3)
    assert found.negative_mass() == pytest.approx(exact.negative_mass(), abs=0.08)
    again = spectral_density(operator, 20, seeds=range(4))
    np.testing.assert_array_equal(found.nodes, again.nodes)


def test_without_curvlinops_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(UserError, match=r"deepmedix-bench\[geometry\]"):
        hessian(layer(), INPUTS, LABELS)


def test_an_unknown_parameter_is_a_mistake():
    with pytest.raises(UserError, match="no parameter is called 'wieght'"):
        hessian(layer(), INPUTS, LABELS, ["wieght"])
