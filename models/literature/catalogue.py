"""Every system of the literature, in the order of the paper's tables."""

from __future__ import annotations

from models.literature import anaraki, btc_fcnn, deepak, emara, pfpm, unprinted, vgg19
from models.literature.system import Publication, System

SYSTEMS: tuple[System, ...] = (
    *vgg19.SYSTEMS,
    *anaraki.SYSTEMS,
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
    """What `reports/tables/systems.csv` holds of the systems: reports must not import models."""
    return [
        {
            "model": name,
            "system": publication.row,
            "foot": str(publication.table or publication.foot),
            "own": "; ".join(f"{figure.accuracy:.2f} on {figure.dataset}" for figure in publication.figures[:1]),
            "protocol": "; ".join(figure.protocol for figure in publication.figures[:1]),
            "doubts": "|".join(publication.doubts),
        }
        for name, publication in publications().items()
    ]
