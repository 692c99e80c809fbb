"""Emara et al. [41]: Inception-v4 with early features reused at its end."""

from __future__ import annotations

from typing import Any

from models.literature.system import Own, Publication, System
from models.normalization import HALF


def backbone() -> Any:
    """timm's Inception-v4 whose stem's map, averaged to the last map's size, is joined to it: 384 + 1536 channels."""
    from models.backbones.long_skip import LongSkipInception

    return LongSkipInception()


_PUBLICATION = Publication(
    reference="[41]",
    citation="T. Emara, H. M. Afify, F. H. Ismail, A. E. Hassanien: A modified inception-v4 for imbalanced skin cancer "
    "classification dataset. ICCES, 28-33, 2019",
    figures=(),
    known="Inception-v4 in which a long skip connection reuses early features; classes balanced by resampling",
    chosen="which early features (the stem's, 384 channels) and how they are joined (averaged to the last map's size "
    "and concatenated); the resampling draws every class equally often, with replacement",
    sureness="by its description",
    foot=3,
    doubts=("[41] stands in the paper's text alone: skin lesions, no figure that is compared.",),
)

SYSTEMS = (
    System(
        "emara-inception_v4",
        "Inception-v4 with a long skip connection",
        _PUBLICATION,
        Own(
            1920,
            backbone,
            75,
            "https://huggingface.co/timm/inception_v4.tf_in1k/resolve/main/model.safetensors",
            HALF,
            classifier=("last_linear",),
            key_prefix="model.",
        ),
        options={"protocol": {"class_balance": "resample"}},
    ),
)
