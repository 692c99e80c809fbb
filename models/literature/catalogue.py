"""Every system of the literature, in the order of the paper's tables."""

from __future__ import annotations

from models.literature import btc_fcnn, deepak, emara, pfpm, unprinted, vgg19
from models.literature.system import Publication, System

SYSTEMS: tuple[System, ...] = (
    *vgg19.SYSTEMS,
    *deepak.SYSTEMS,
    *unprinted.SYSTEMS,
    *btc_fcnn.SYSTEMS,
    *pfpm.SYSTEMS,
    *emara.SYSTEMS,
)


def publications() -> dict[str, Publication]:
    """The publications by the names of their models."""
    return {system.name: system.publication for system in SYSTEMS}
