"""Groups are dealt whole, every image once, in the proportions that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from federated.data.partitions import Division, divide, divide_alike

CLASSES = 3


def drawn(images: int, groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, groups and sites; the images of a group share its class and its site."""
    random = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(groups), random.integers(0, groups, images - groups)])
    labels = (owner % CLASSES).astype(np.int64)
    return labels, owner.astype(str), np.array([f"site {o % 4}" for o in owner])


@given(
    kind=st.sampled_from(["iid", "dirichlet", "shards", "quantity", "site"]),
    clients=st.integers(1, 12),
    seed=st.integers(0, 50),
    alpha=st.sampled_from([0.05, 0.5, 10.0]),
)
@settings(max_examples=60, deadline=None)
def test_every_image_has_one_client_and_groups_stay_whole(kind: str, clients: int, seed: int, alpha: float) -> None:
    labels, groups, sites = drawn(150, 60, seed)
    division = divide(labels, groups, sites, kind, clients=clients, classes=CLASSES, alpha=alpha, seed=seed)
    assert sorted(np.concatenate(division.clients).tolist()) == list(range(150))
    owners = [set(groups[part]) for part in division.clients]
    assert sum(len(held) for held in owners) == len(set(groups))
    assert min(len(part) for part in division.clients) >= 2


def test_iid_clients_look_like_the_whole() -> None:
    labels, groups, sites = drawn(900, 900)
    table = divide(labels, groups, sites, "iid", clients=5, classes=CLASSES).table(labels, CLASSES)
    assert table.tolist() == [[60, 60, 60]] * 5


def test_dirichlet_is_uneven_at_small_alpha_and_even_at_large() -> None:
    labels, groups, sites = drawn(3000, 3000)

    def unevenness(alpha: float) -> float:
        division = divide(labels, groups, sites, "dirichlet", clients=5, classes=CLASSES, alpha=alpha, seed=3)
        return float(division.shares.std(axis=1).mean())

    assert unevenness(0.1) > 4 * unevenness(100.0)


def test_shards_give_a_client_few_classes() -> None:
    labels, groups, sites = drawn(900, 900)
    table = divide(labels, groups, sites, "shards", clients=9, classes=CLASSES, shards=1).table(labels, CLASSES)
    assert ((table > 0).sum(axis=1) <= 2).all()
    assert table.sum(axis=1).tolist() == [100] * 9


def test_quantity_changes_sizes_and_keeps_proportions() -> None:
    labels, groups, sites = drawn(3000, 3000)
    division = divide(labels, groups, sites, "quantity", clients=4, classes=CLASSES, alpha=0.5, seed=1)
    sizes = np.array([len(part) for part in division.clients])
    assert sizes.max() > 2 * sizes.min()
    np.testing.assert_allclose(division.shares, np.tile(sizes / 3000, (CLASSES, 1)), atol=0.01)


def test_sites_are_clients_and_others_follow_them() -> None:
    labels, groups, sites = drawn(80, 40)
    division = divide(labels, groups, sites, "site", clients=2, classes=CLASSES)
    assert division.names == ("site 0", "site 1", "site 2", "site 3")
    alike = divide_alike(division, labels, groups, sites)
    assert all(a.tolist() == b.tolist() for a, b in zip(division.clients, alike.clients, strict=True))


def test_validation_follows_the_training_proportions() -> None:
    labels, groups, sites = drawn(2000, 2000)
    division = divide(labels, groups, sites, "dirichlet", clients=4, classes=CLASSES, alpha=0.3, seed=7)
    other = drawn(1000, 1000, seed=9)
    alike = divide_alike(division, *other)
    np.testing.assert_allclose(alike.shares, division.shares, atol=0.01)


def test_the_order_of_the_rows_is_of_no_account() -> None:
    labels, groups, sites = drawn(100, 50)
    order = np.random.default_rng(4).permutation(100)

    def held(division: Division, names: np.ndarray) -> list[set[str]]:
        return [set(names[part]) for part in division.clients]

    straight = divide(labels, groups, sites, "dirichlet", clients=5, classes=CLASSES)
    mixed = divide(labels[order], groups[order], sites[order], "dirichlet", clients=5, classes=CLASSES)
    assert held(straight, groups) == held(mixed, groups[order])


@pytest.mark.parametrize(
    ("kind", "clients", "message"),
    [("iid", 61, "need as many groups"), ("odd", 3, "no partition is called 'odd'")],
)
def test_impossible_partitions_are_refused(kind: str, clients: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide(*drawn(150, 60), kind, clients=clients, classes=CLASSES)


def test_unknown_sites_are_refused() -> None:
    labels, groups, _ = drawn(20, 10)
    with pytest.raises(UserError, match="names its sites"):
        divide(labels, groups, np.array([""] * 20), "site", clients=2, classes=CLASSES)
