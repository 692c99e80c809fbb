"""Generators of nonsense: each takes a random stream, a folder and what it may harm copies of."""

from __future__ import annotations

from tests.fuzz.generators import files, lines, pictures, runs, settings, shared
from tests.fuzz.generators.nonsense import Generator

GENERATORS: dict[str, tuple[Generator, int]] = {
    "images": (pictures.images, 3),
    "tables": (pictures.tables, 4),
    "folders": (pictures.folders, 4),
    "arrays": (pictures.arrays, 3),
    "protocols": (settings.protocol, 5),
    "spaces": (settings.space, 3),
    "questions": (settings.question, 3),
    "federations": (settings.federation, 5),
    "command lines": (lines.command_line, 10),
    "run folders": (runs.run_folder, 10),
    "predictions": (runs.predictions, 3),
    "states": (runs.state, 2),
    "baselines": (runs.baseline, 4),
    "archives": (files.archive, 4),
    "weights": (files.weights, 5),
    "studies": (shared.study, 2),
    "consortiums": (shared.consortium, 3),
    "messages": (shared.message, 4),
    "caches": (shared.cache, 4),
}
"""By name: the generator, and how often it is drawn in proportion to the others."""
