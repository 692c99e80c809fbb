"""Embedded datasets, drawn by code: brain-like slices in gray and skin-like lesions in colour.

They need no file and no network. What they share with the real sets: several images a patient (or lesion) with the
same anatomy, sites with their own noise and contrast, classes that overlap in every single cue, imbalance. Their class
names are invented, so that no result of theirs can be taken for a clinical one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.identity import derive_seed, digest
from bench.data.phantom.drawing import BRAIN_CLASSES, SKIN_CLASSES, draw_brain, draw_skin
from bench.data.table import Kind, Pixels, Table, text_column

VERSION = 1
SITES = ("north", "harbour", "hill")
LEAST_IMAGES = 30
Draw = Callable[[int, int, int, int, int], Pixels]


@dataclass(frozen=True)
class PhantomImages:
    """Images drawn on demand at any size.

    Attributes:
        labels, sites: numbers [N].
        anatomy, view: seeds of what a group's images share and of what each has alone [N].
        size: side of what `read` draws, pixels.
    """

    name: str
    draw: Draw
    labels: NDArray[np.int64]
    sites: NDArray[np.int64]
    anatomy: tuple[int, ...]
    view: tuple[int, ...]
    size: int

    def read(self, index: int) -> Pixels:
        """Draw the image at the source's own size."""
        return self.read_at(index, self.size)

    def read_at(self, index: int, size: int) -> Pixels:
        """Draw the image at `size` x `size`."""
        label, site = int(self.labels[index]), int(self.sites[index])
        return self.draw(label, site, self.anatomy[index], self.view[index], size)

    def checksum(self, index: int) -> str:
        """The digest of what the drawing depends on."""
        cause = [self.name, VERSION, int(self.labels[index]), int(self.sites[index]), self.anatomy[index]]
        return digest([*cause, self.view[index]], length=32)


def brain(images: int, size: int) -> Table:
    """`phantom-brain`: gray, three classes of unequal share, two to five slices a patient."""
    shares = (0.4, 0.35, 0.25)
    return _phantom("phantom-brain", "brain", BRAIN_CLASSES, shares, (2, 5), draw_brain, images, size)


def skin(images: int, size: int) -> Table:
    """`phantom-skin`: colour, seven imbalanced classes, one to three pictures a lesion."""
    shares = (0.46, 0.15, 0.13, 0.09, 0.07, 0.05, 0.05)
    return _phantom("phantom-skin", "skin", SKIN_CLASSES, shares, (1, 3), draw_skin, images, size)


def _phantom(
    name: str,
    kind: Kind,
    classes: tuple[str, ...],
    shares: tuple[float, ...],
    per_group: tuple[int, int],
    draw: Draw,
    images: int,
    size: int,
) -> Table:
    rows = _rows(name, shares, per_group, images)
    labels = np.array([label for _, label, _ in rows], dtype=np.int64)
    sites = np.array([derive_seed(name, VERSION, "site", number) % len(SITES) for number, _, _ in rows])
    source = PhantomImages(
        name,
        draw,
        labels,
        sites,
        tuple(derive_seed(name, VERSION, "anatomy", number) for number, _, _ in rows),
        tuple(derive_seed(name, VERSION, "view", number, view) for number, _, view in rows),
        size,
    )
    return Table(
        name,
        classes,
        ids=text_column(f"{kind}-{number:05d}-{view}" for number, _, view in rows),
        labels=labels,
        groups=text_column(f"{kind}-{number:05d}" for number, _, _ in rows),
        sites=text_column(SITES[site] for site in sites),
        official=text_column("" for _ in rows),
        images=source,
        kind=kind,
        synthetic=True,
        expected=images,
        notes=("synthetic: drawn by code, says nothing of patients",),
    )


def _rows(name: str, shares: tuple[float, ...], per_group: tuple[int, int], images: int) -> list[tuple[int, int, int]]:
    """The group's number, the label and the view of each image."""
    if images < LEAST_IMAGES:
        raise UserError(f"{name} draws {LEAST_IMAGES} images or more, not {images=}")
    groups = [
        (label, count)
        for label, of_class in _quotas(images, shares)
        for count in _group_sizes(of_class, per_group, derive_seed(name, VERSION, label))
    ]
    return [(number, label, view) for number, (label, count) in enumerate(groups) for view in range(count)]


def _quotas(images: int, shares: tuple[float, ...]) -> list[tuple[int, int]]:
    """Images a class: at least four each, the rest by largest remainder."""
    free = images - 4 * len(shares)
    exact = [free * share for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda label: counts[label] - exact[label])
    for label in by_remainder[: free - sum(counts)]:
        counts[label] += 1
    return [(label, 4 + count) for label, count in enumerate(counts)]


def _group_sizes(images: int, per_group: tuple[int, int], seed: int) -> list[int]:
    """Cut a class's images into groups; a class of few images still gets three groups or more."""
    generator = np.random.Generator(np.random.PCG64(seed))
    sizes: list[int] = []
    most = max(1, min(per_group[1], images // 3))
    while sum(sizes) < images:
        drawn = int(generator.integers(min(per_group[0], most), most + 1))
        sizes.append(min(drawn, images - sum(sizes)))
    return sizes
