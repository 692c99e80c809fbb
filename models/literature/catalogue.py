"""Every system of the literature: each file of this folder that has `SYSTEMS` brings its own."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from models import literature
from models.literature.system import Publication, System


def systems() -> tuple[System, ...]:
    """What the files of this folder describe, in the order of the DeepMediX paper's references."""
    names = sorted(module.name for module in iter_modules(literature.__path__) if module.name != "catalogue")
    modules = [import_module(f"{literature.__name__}.{name}") for name in names]
    found = [system for module in modules for system in getattr(module, "SYSTEMS", ())]
    return tuple(sorted(found, key=lambda system: int(system.publication.reference.strip("[]"))))


SYSTEMS = systems()


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
