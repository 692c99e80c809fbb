"""Distances to the boundary: exact for a linear network; an attack finds no shorter way."""

import pytest
import torch
from torch import nn

from bench.analyses.geometry.boundary import attack_norms, first_order_margin
from bench.analyses.geometry.jacobian import jacobian
from bench.analyses.support.attacks import pgd
from bench.core.errors import UserError

WEIGHT = torch.randn(4, 3 * 4 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GRAY = 0.5 + 0.1 * torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def linear(images):
    return (images - 0.55).flatten(1) @ WEIGHT.T


def exact_distances(images):
    """By the formula, class by class in plain Python."""
    found = []
    for logits in linear(images):
        first = int(logits.argmax())
        others = [j for j in range(4) if j != first]
        found.append(min(float((logits[first] - logits[j]) / (WEIGHT[first] - WEIGHT[j]).norm()) for j in others))
    return torch.tensor(found, dtype=torch.float64)


def rivals():
    return torch.tensor([first_order_margin(linear(each[None])[0], jacobian(linear, each)).rival for each in GRAY])


def test_a_linear_networks_margin_distance_is_exact():
    expected = exact_distances(GRAY)
    for image, distance in zip(GRAY, expected, strict=True):
        logits = linear(image[None])[0]
        margin = first_order_margin(logits, jacobian(linear, image))
        assert margin.distance == pytest.approx(float(distance), rel=1e-12)
        moved = linear((image + margin.distance * margin.direction)[None])[0]
        top = moved.topk(2)
        assert float(top.values[0] - top.values[1]) == pytest.approx(0, abs=1e-12)
        assert {int(logits.argmax()), margin.rival} == set(top.indices.tolist())


def test_the_attack_needs_the_exact_distance_and_never_less():
    expected = exact_distances(GRAY)
    norms = attack_norms(linear, GRAY, 1.7 * expected, rivals(), seed=0, steps=20, halvings=8)
    assert (norms >= expected * (1 - 1e-9)).all()
    torch.testing.assert_close(norms, expected, rtol=0.03, atol=0)


def test_the_attack_grows_its_radius_and_gives_up_where_no_change_helps():
    expected = exact_distances(GRAY)
    found = attack_norms(linear, GRAY, expected / 10, rivals(), seed=0)
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)

    def constant(images):
        return torch.stack([images.flatten(1).sum(1) * 0 + 1, images.flatten(1).sum(1) * 0], dim=1)

    ones = torch.ones(2, dtype=torch.float64)
    assert torch.isinf(attack_norms(constant, GRAY[:2], ones, torch.tensor([1, 1]), seed=0)).all()
    margin = first_order_margin(constant(GRAY)[0], jacobian(constant, GRAY[0]))
    assert margin.distance == float("inf")
    assert margin.direction.norm() == 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_pgd_stays_in_the_ball_and_in_the_box_and_follows_its_seed(norm):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    pixels = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = net(pixels).argmax(1)
    attacked = pgd(net, pixels, labels, 0.3, norm, 10, seed=4)
    change = (attacked - pixels).flatten(1)
    assert change.norm(dim=1).max() <= 0.3 + 1e-12 if norm == "l2" else change.abs().max() <= 0.3 + 1e-12
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert torch.equal(attacked, pgd(net, pixels, labels, 0.3, norm, 10, seed=4))
    assert torch.equal(pgd(net, pixels, labels, 0.0, norm, 3, seed=4), pixels)
    loss = nn.functional.cross_entropy
    random = pgd(lambda x: net(x) * 0, pixels, labels, 0.3, norm, 1, seed=4)
    assert loss(net(attacked), labels) > loss(net(random), labels) > loss(net(pixels), labels) - 0.1


def test_linf_pgd_reaches_the_corner_that_is_the_worst_of_a_linear_network():
    """The margin of a linear two-class network falls by radius times the L1 norm of the weights' difference."""
    two = WEIGHT[:2]
    pixels = GRAY[:1]
    label = torch.tensor([0])
    attacked = pgd(lambda x: x.flatten(1) @ two.T + torch.tensor([50.0, 0.0]), pixels, label, 0.05, "linf", 20, seed=0)
    slope = two[0] - two[1]
    assert float((pixels - attacked).flatten(1) @ slope) == pytest.approx(0.05 * float(slope.abs().sum()), rel=1e-9)


def test_a_senseless_attack_is_a_mistake():
    with pytest.raises(UserError, match="one step or more"):
        pgd(linear, GRAY, torch.zeros(6, dtype=torch.long), 0.1, "l2", 0, seed=0)
    with pytest.raises(UserError, match="radius of 0 or more"):
        pgd(linear, GRAY, torch.zeros(6, dtype=torch.long), -0.1, "l2", 1, seed=0)
