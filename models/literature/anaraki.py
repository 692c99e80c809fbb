"""Kabir Anaraki et al. [34]: a small CNN that a genetic algorithm evolves, and a bagging ensemble of it."""

from __future__ import annotations

from typing import Any

from models.heads.genome import GenomeHeadConfig
from models.literature.system import Figure, Own, Publication, System


def pixels() -> Any:
    """The image itself, so that the whole network is what stands on it and is searched."""
    from torch import nn

    return nn.Identity()


_PUBLICATION = Publication(
    reference="[34]",
    citation="A. Kabir Anaraki, M. Ayati, F. Kazemi: Magnetic resonance imaging-based brain tumor grades "
    "classification and grading via convolutional neural networks and genetic algorithms. Biocybernetics and "
    "Biomedical Engineering 39(1), 63-74, 2019",
    figures=(Figure("figshare", 94.2, "an ensemble by bagging; the split is not known here"),),
    known="depth, filters, pooling, dense width, activation (ReLU, LeakyReLU, ELU, SELU), dropout and optimizer evolve "
    "by a genetic algorithm; the result is a bagging ensemble of the evolved network",
    chosen="the genes' ranges (2 to 5 blocks of 8 to 64 filters of 3 or 5 pixels, 32 to 128 dense units, dropout to "
    "0.5, Adam, AdamW or SGD with momentum at ten times the rate), a global average before the dense layer, and the "
    "budget: 4 networks in each of 3 generations, a tenth of the protocol's epochs for each, and 3 members; the "
    "genetic algorithm is NSGA-II with one objective, the validation accuracy",
    sureness="by its description",
    table=2,
    row="Genetic algorithm + CNN [34]",
    doubts=("The 94.2 of [34] is an ensemble's; its parameters and operations are those of all members together.",),
)

SYSTEMS = (
    System(
        "anaraki-gacnn",
        "a CNN that a genetic search finds, bagged",
        _PUBLICATION,
        Own(3, pixels, 32),
        GenomeHeadConfig(),
        recipe="genetic",
        options={"population": 4, "generations": 3, "share": 10, "members": 3},
    ),
)
