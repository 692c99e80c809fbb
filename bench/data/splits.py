"""Dividing a dataset into train, validation and test (paper reading, row 8): 70/10/20, stratified, groups whole.

Orders come from hashing the seed with the group's name, never from a random stream, so that a split is the same on
any machine, under any version of numpy, and for any order of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.table import PARTS, Table

SHARES = (0.7, 0.1, 0.2)
VALIDATION_OF_TRAIN = 0.1
KINDS = ("grouped", "image", "official", "site")
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of a table, ascending, without overlap."""

    train: Rows
    val: Rows
    test: Rows

    def parts(self) -> dict[str, Rows]:
        """The rows by the part's name."""
        return {name: getattr(self, name) for name in PARTS}


def expand(table: Table, kind: str) -> list[str]:
    """The splits that a kind stands for: "official" is one split a fold where the table has folds, "site" one a site.

    Raises:
        UserError: unknown kind, "official" where the table has none, or "site" where fewer than two sites are known.
    """
    name, _, fold = kind.partition(":")
    if name not in KINDS or (fold and name not in ("official", "site")):
        raise UserError(
            f"no split is called {kind!r}; there are {', '.join(KINDS)}, official:N for fold N and site:NAME"
        )
    if name == "site":
        return _expand_sites(table, fold)
    if name != "official":
        return [kind]
    folds = official_folds(table)
    if not folds:
        _official_rows(table)
        if fold:
            raise UserError(f"dataset {table.name!r} has an official train and test set, no folds: use official")
        return [kind]
    if fold and fold not in folds:
        raise UserError(f"dataset {table.name!r} has no fold {fold!r}; its folds are {', '.join(folds)}")
    return [kind] if fold else [f"official:{number}" for number in folds]


def _expand_sites(table: Table, site: str) -> list[str]:
    """One split a site that is left out, or the one that was named."""
    sites = [name for name in np.unique(table.sites).tolist() if name]
    if len(sites) < 2:
        raise UserError(
            f"dataset {table.name!r} names {len(sites)} sites; leaving one out needs two or more: use --split grouped"
        )
    if site and site not in sites:
        raise UserError(f"dataset {table.name!r} has no site {site!r}; its sites are {', '.join(sites)}")
    return [f"site:{name}" for name in ([site] if site else sites)]


def official_folds(table: Table) -> list[str]:
    """The author's folds, in numerical order; empty where there are none."""
    numbers = {value for value in np.unique(table.official).tolist() if value.isdigit()}
    return sorted(numbers, key=int)


def split(table: Table, kind: str, seed: int) -> Split:
    """Divide a table.

    Args:
        kind: "grouped", "image", "official", "official:N", or "site:NAME", which tests on that site alone.
        seed: the user's seed number; an official split and one by site use it only to draw the validation part.

    Raises:
        UserError: unknown kind, or too few groups for three non-empty parts with every class in train.
    """
    expanded = expand(table, kind)
    if expanded != [kind]:
        raise UserError(f"dataset {table.name!r} has several of them: name one of {', '.join(expanded)}")
    if kind == "image":
        return _drawn(table, table.ids, seed)
    if kind == "grouped":
        return _drawn(table, table.groups, seed)
    if kind.startswith("site:"):
        return _without_site(table, kind.partition(":")[2], seed)
    return _fold(table, kind.partition(":")[2]) if ":" in kind else _official(table, seed)


def _drawn(table: Table, groups: NDArray[np.str_], seed: int) -> Split:
    rows = np.arange(len(table))
    part = divide(table.labels, groups, SHARES, seed)
    made = Split(*(rows[part == number] for number in range(3)))
    return _checked(table, made)


def _fold(table: Table, fold: str) -> Split:
    folds = official_folds(table)
    if len(folds) < 3:
        raise UserError(f"dataset {table.name!r} has {len(folds)} folds; train, validation and test need three")
    following = folds[(folds.index(fold) + 1) % len(folds)]
    test, val = table.official == fold, table.official == following
    train = np.isin(table.official, folds) & ~test & ~val
    return _checked(table, Split(*(np.flatnonzero(mask) for mask in (train, val, test))))


def _without_site(table: Table, site: str, seed: int) -> Split:
    """Tested on one site, fitted and chosen on the others.

    Left out are images of unknown site, and those that another site has of the tested site's patients.
    """
    test = table.sites == site
    rest = ~test & (table.sites != "") & ~np.isin(table.groups, table.groups[test])
    return _checked(table, Split(*_with_validation(table, np.flatnonzero(rest), seed), np.flatnonzero(test)))


def _with_validation(table: Table, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Rows divided into train and validation. Groups stay whole, so that validation tells of new patients as the
    test set does."""
    if not len(rows):
        return rows, rows
    share = (1 - VALIDATION_OF_TRAIN, VALIDATION_OF_TRAIN, 0.0)
    part = divide(table.labels[rows], table.groups[rows], share, seed)
    return rows[part == 0], rows[part == 1]


def _official(table: Table, seed: int) -> Split:
    train, val, test = _official_rows(table)
    if not len(val):
        train, val = _with_validation(table, train, seed)
    return _checked(table, Split(train, val, test))


def _official_rows(table: Table) -> tuple[Rows, Rows, Rows]:
    train, val, test = (np.flatnonzero(table.official == name) for name in PARTS)
    if not len(train) or not len(test):
        raise UserError(f"dataset {table.name!r} has no official split; use grouped or image")
    return train, val, test


def _checked(table: Table, made: Split) -> Split:
    empty = [name for name, rows in made.parts().items() if not len(rows)]
    if empty:
        groups = len(np.unique(table.groups))
        raise UserError(
            f"dataset {table.name!r}: {len(table)} images in {groups} groups leave the {empty[0]} part empty; "
            "more groups are needed, or --split image"
        )
    missing = set(np.unique(table.labels).tolist()) - set(np.unique(table.labels[made.train]).tolist())
    if missing:
        names = ", ".join(table.classes[label] for label in sorted(missing))
        raise UserError(f"dataset {table.name!r}: too few groups to have {names} in the train part; try --split image")
    return made


def divide(
    labels: NDArray[np.int64], groups: NDArray[np.str_], shares: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Deal whole groups to parts 0 ... len(shares) - 1 so that each class comes near its shares.

    Groups of several classes are dealt first, largest first, each to the part that is left furthest behind. Groups of
    one class are lined up by hash and cut where the running count is nearest to the shares, so that for a class
    whose groups are all of one class each part misses its share by at most that class's largest group.

    Args:
        labels, groups: of each row [N].
        shares: of the images, one a part; they add up to 1.
        seed: by which the groups are put in order.

    Returns:
        the part of each row, int64 [N].
    """
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, labels), 1)
    order = sorted(range(len(names)), key=lambda group: _rank(str(names[group]), seed))
    part = _deal(counts, order, np.asarray(shares, dtype=float))
    _fill_empty(part, counts, order, shares)
    _keep_classes_in_train(part, counts, order)
    dealt: NDArray[np.int64] = part[member]
    return dealt


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"split\x1f{seed}\x1f{group}".encode()).digest()


def _deal(counts: NDArray[np.int64], order: list[int], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    part = np.zeros(len(counts), dtype=np.int64)
    targets = counts.sum(0) * shares[:, None]
    held = np.zeros_like(targets)
    mixed = [group for group in order if (counts[group] > 0).sum() > 1]
    for group in sorted(mixed, key=lambda group: -int(counts[group].sum())):
        part[group] = _furthest_behind(counts[group], held, targets)
        held[part[group]] += counts[group]
    for label in range(counts.shape[1]):
        pure = [group for group in order if counts[group, label] and (counts[group] > 0).sum() == 1]
        wanted = np.maximum(targets[:, label] - held[:, label], 0)
        part[pure] = _cut(counts[pure, label], wanted)
    return part


def _furthest_behind(group: NDArray[np.int64], held: NDArray[np.float64], targets: NDArray[np.float64]) -> int:
    """The part where adding the group lowers the squared distance to the targets most, relative to class size."""
    weight = 1 / np.maximum(targets.sum(0), 1)
    before = (((held - targets) * weight) ** 2).sum(1)
    after = (((held + group - targets) * weight) ** 2).sum(1)
    change = np.where(targets.sum(1) > 0, after - before, np.inf)
    return int(change.argmin())


def _cut(sizes: NDArray[np.int64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cut a line of groups where the running count is nearest to the wanted shares; the last parts come first.

    Part 0 (train) takes what is left, so that a class with a single group is trained on.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    scale = edges[-1] / wanted.sum() if wanted.sum() > 0 else 0.0
    part = np.zeros(len(sizes), dtype=np.int64)
    start, reach = 0, 0.0
    for number in range(len(wanted) - 1, 0, -1):
        reach += wanted[number] * scale
        stop = max(start, int(np.abs(edges - reach).argmin()))
        part[start:stop] = number
        start = stop
    return part


def _fill_empty(part: NDArray[np.int64], counts: NDArray[np.int64], order: list[int], shares: Sequence[float]) -> None:
    """Give each empty part the smallest group that train can spare without losing a class."""
    for number in range(len(shares) - 1, 0, -1):
        if shares[number] == 0 or (part == number).any():
            continue
        spare = [group for group in order if part[group] == 0 and _can_leave(group, part, counts)]
        if spare:
            part[min(spare, key=lambda group: int(counts[group].sum()))] = number


def _can_leave(group: int, part: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    left = counts[part == part[group]].sum(0) - counts[group]
    return bool((left[counts[group] > 0] > 0).all())


def _keep_classes_in_train(part: NDArray[np.int64], counts: NDArray[np.int64], order: list[int]) -> None:
    """Bring a class that only groups outside train have into train, where their part keeps another group."""
    for label in np.flatnonzero(counts.sum(0)):
        if counts[part == 0, label].sum():
            continue
        away = [group for group in order if counts[group, label] and (part == part[group]).sum() > 1]
        if away:
            part[min(away, key=lambda group: int(counts[group].sum()))] = 0
