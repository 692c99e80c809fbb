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


def compared_rows() -> list[dict[str, str]]:
    """What `reports/tables/systems.csv` holds of the systems that the paper prints: reports must not import models."""
    return [
        {
            "model": name,
            "system": publication.row,
            "own": f"{publication.figures[0].accuracy:.2f} on {publication.figures[0].dataset}",
            "protocol": publication.figures[0].protocol,
            "doubts": "|".join(publication.doubts),
        }
        for name, publication in publications().items()
        if publication.table and publication.figures
    ]
