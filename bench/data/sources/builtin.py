"""The datasets that come with the harness, in the order of listings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.core.config import Protocol
from bench.data.sources import figshare, isicspecs, kaggle_brain, medmnist, regions
from bench.data.spec import DatasetSpec
from bench.data.table import Table


def _phantom_brain(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    from bench.data.phantom.datasets import brain

    return brain(protocol.synthetic_images, protocol.image_size)


def _phantom_skin(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    from bench.data.phantom.datasets import skin

    return skin(protocol.synthetic_images, protocol.image_size)


_BRAIN = DatasetSpec(
    "phantom-brain",
    title="Phantom brain slices (synthetic)",
    summary="gray slices with lesions of 3 invented classes, drawn by code",
    reader=_phantom_brain,
    licence="Apache-2.0 (part of this project)",
    hint="always available",
    kind="brain",
    synthetic=True,
    embedded=True,
    groups="invented patient",
)
_SKIN = DatasetSpec(
    "phantom-skin",
    title="Phantom skin lesions (synthetic)",
    summary="colour lesions of 7 invented, imbalanced classes, drawn by code",
    reader=_phantom_skin,
    licence="Apache-2.0 (part of this project)",
    hint="always available",
    kind="skin",
    synthetic=True,
    embedded=True,
    groups="invented lesion",
)

SPECS: tuple[DatasetSpec, ...] = (
    _BRAIN,
    _SKIN,
    kaggle_brain.KAGGLE_SPEC,
    figshare.SPEC,
    regions.SPEC,
    kaggle_brain.BR35H_SPEC,
    *isicspecs.SPECS,
)
RESOLVERS: dict[str, Callable[[str], DatasetSpec]] = {medmnist.PREFIX: medmnist.resolve}
