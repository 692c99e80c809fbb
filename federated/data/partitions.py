"""How a dataset's groups (patients, lesions) are dealt to clients: whole groups, never single images.

Every kind is a table of shares, one row a class and one column a client, and one greedy dealer that brings the clients
as near to it as whole groups allow. The validation and test groups follow the table that the training groups realised,
so that a client validates on the kind of cases that it trains on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.identity import derive_seed

Indices = NDArray[np.int64]
MINIMUM_IMAGES = 2  # BatchNorm has no variance for a client that holds one image


@dataclass(frozen=True)
class Groups:
    """A part's groups: `members` image indices, `classes` the commonest class, `sizes` images, `sites` a name."""

    members: tuple[Indices, ...]
    classes: Indices
    sizes: Indices
    sites: NDArray[np.str_]

    @classmethod
    def of(cls, labels: NDArray[np.int64], groups: NDArray[np.str_], sites: NDArray[np.str_]) -> Groups:
        """Collect the groups of images [N] in the order of their names, so that the images' order is of no account.

        Args:
            labels: class numbers [N].
            groups: the patient or lesion of each image [N].
            sites: the hospital of each image [N].
        """
        _, inverse = np.unique(groups, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1) if len(order) else []
        return cls(
            tuple(member.astype(np.int64) for member in members),
            np.array([np.bincount(labels[member]).argmax() for member in members], np.int64),
            np.array([len(member) for member in members], np.int64),
            np.array([_commonest(sites[member]) for member in members], np.str_),
        )


@dataclass(frozen=True)
class Division:
    """Which client holds which images.

    Attributes:
        clients: image indices of each client, ascending.
        names: what each client is called ("client 1", or its site).
        shares: realised shares [classes, clients]; each row sums to 1, or to 0 for a class that is not there.
    """

    clients: tuple[Indices, ...]
    names: tuple[str, ...]
    shares: NDArray[np.float64]

    def table(self, labels: NDArray[np.int64], classes: int) -> Indices:
        """Images by client and class [clients, classes]."""
        return np.stack([np.bincount(labels[part], minlength=classes) for part in self.clients])


def divide(
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    sites: NDArray[np.str_],
    kind: str,
    *,
    clients: int,
    classes: int,
    alpha: float = 0.5,
    shards: int = 2,
    seed: int = 0,
) -> Division:
    """Deal the images [N] of a training part to clients.

    Args:
        labels: class numbers [N].
        groups: the patient or lesion of each image [N]; none is divided.
        sites: the hospital of each image [N], "" where it is not known.
        kind: `iid` (every client like the whole), `dirichlet` (class proportions drawn with concentration `alpha`),
            `shards` (each client gets `shards` runs of class-sorted groups), `quantity` (sizes drawn with
            concentration `alpha`, classes as in the whole), `site` (a client is a site; `clients` is not used).
        seed: of the draws.

    Raises:
        UserError: fewer groups than clients or shards, too few images, or a dataset whose sites are not known.
    """
    held = Groups.of(labels, groups, sites)
    names = _site_names(held) if kind == "site" else tuple(f"client {k + 1}" for k in range(clients))
    if len(held.members) < len(names):
        raise UserError(f"{len(names)} clients need as many groups, and the training part has {len(held.members)}")
    if kind == "shards" and shards * len(names) > len(held.members):
        raise UserError(
            f"{shards} shards for each of {len(names)} clients need as many groups, and the training part has "
            f"{len(held.members)}; set fewer federated.shards or clients"
        )
    random = np.random.default_rng(derive_seed("partition", kind, len(names), seed))
    if kind == "site":
        owner = _by_site(held, names)
    elif kind == "shards":
        owner = _by_shards(held, len(names), shards, random)
    else:
        owner = _deal(held, _drawn_shares(kind, classes, len(names), alpha, random), random)
    _repair(owner, held, len(names))
    return _division(owner, held, names, classes)


def divide_alike(
    model: Division,
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    sites: NDArray[np.str_],
    *,
    seed: int = 0,
) -> Division:
    """Deal another part (validation, test) in the proportions of `model`; a client may come out empty.

    Args:
        model: the division of the training part.
        labels: class numbers [N].
        groups: the patient or lesion of each image [N]; none is divided.
        sites: the hospital of each image [N].
        seed: of the draws.
    """
    held = Groups.of(labels, groups, sites)
    classes, clients = model.shares.shape
    random = np.random.default_rng(derive_seed("partition-alike", clients, seed))
    if set(np.unique(held.sites)) & set(model.names):
        owner = _by_site(held, model.names)
    else:
        owner = _deal(held, model.shares, random)
    return _division(owner, held, model.names, classes)


def _drawn_shares(
    kind: str, classes: int, clients: int, alpha: float, random: np.random.Generator
) -> NDArray[np.float64]:
    if kind == "iid":
        return np.full((classes, clients), 1 / clients)
    if kind == "dirichlet":
        return random.dirichlet(np.full(clients, alpha), size=classes)
    if kind == "quantity":
        return np.tile(random.dirichlet(np.full(clients, alpha)), (classes, 1))
    raise UserError(f"no partition is called {kind!r}; there are iid, dirichlet, shards, quantity, site")


def _deal(held: Groups, shares: NDArray[np.float64], random: np.random.Generator) -> Indices:
    owner = np.empty(len(held.members), np.int64)
    for label in np.unique(held.classes):
        mine = random.permutation(np.flatnonzero(held.classes == label))
        # A class that the training part lacks has no share; it is dealt evenly.
        share = shares[label] if shares[label].sum() > 0 else np.full(shares.shape[1], 1 / shares.shape[1])
        missing = share * held.sizes[mine].sum() + random.uniform(0, 1e-9, shares.shape[1])  # ties fall by chance
        for group in mine:
            owner[group] = missing.argmax()
            missing[owner[group]] -= held.sizes[group]
    return owner


def _by_shards(held: Groups, clients: int, shards: int, random: np.random.Generator) -> Indices:
    shuffled = random.permutation(len(held.members))
    ordered = shuffled[np.argsort(held.classes[shuffled], kind="stable")]
    middles = np.cumsum(held.sizes[ordered]) - held.sizes[ordered] / 2
    piece = np.minimum((middles * clients * shards / held.sizes.sum()).astype(np.int64), clients * shards - 1)
    owners = random.permutation(np.repeat(np.arange(clients), shards))
    owner = np.empty(len(ordered), np.int64)
    owner[ordered] = owners[piece]
    return owner


def _site_names(held: Groups) -> tuple[str, ...]:
    names = tuple(str(name) or "unknown" for name in np.unique(held.sites))
    if names == ("unknown",):
        raise UserError(
            "partition site needs a dataset that names its sites; choose iid, dirichlet, shards or quantity"
        )
    return names


def _by_site(held: Groups, names: tuple[str, ...]) -> Indices:
    position = {name: index for index, name in enumerate(names)}
    return np.array([position.get(str(site) or "unknown", 0) for site in held.sites], np.int64)


def _repair(owner: Indices, held: Groups, clients: int) -> None:
    """Move groups from the largest client until each has two images; a draw may leave a client with none."""
    if held.sizes.sum() < clients * MINIMUM_IMAGES:
        raise UserError(f"{clients} clients need {clients * MINIMUM_IMAGES} training images, not {held.sizes.sum()}")
    for _ in range(len(owner) * 2):
        images = np.bincount(owner, weights=held.sizes, minlength=clients)
        poorest, richest = int(images.argmin()), int(images.argmax())
        if images[poorest] >= MINIMUM_IMAGES:
            return
        candidates = np.flatnonzero(owner == richest)
        owner[candidates[held.sizes[candidates].argmin()]] = poorest
    raise UserError(f"the groups cannot be dealt so that each of {clients} clients has two images; take fewer clients")


def _division(owner: Indices, held: Groups, names: tuple[str, ...], classes: int) -> Division:
    counts = np.zeros((classes, len(names)))
    np.add.at(counts, (held.classes, owner), held.sizes)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    empty = np.empty(0, np.int64)
    parts = [[held.members[g] for g in np.flatnonzero(owner == k)] for k in range(len(names))]
    return Division(tuple(np.sort(np.concatenate([empty, *part])) for part in parts), names, shares)


def _commonest(values: NDArray[np.str_]) -> str:
    names, counts = np.unique(values, return_counts=True)
    return str(names[counts.argmax()])
