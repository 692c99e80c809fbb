"""DeepMediX and the eight models of its ablation (section 4.3 of the paper; reading rows 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.heads.config import HeadConfig

BACKBONE = "mobilenet_v2"


@dataclass(frozen=True)
class Variant:
    """A head of the ablation: its name here, its name in the paper's table 4, and what it changes."""

    name: str
    paper_name: str
    changes: str
    head: HeadConfig


_FULL = HeadConfig()
_WIDE = HeadConfig(widths=(256, 256, 256))

VARIANTS = (
    Variant("deepmedix", "DeepMediX", "the full model", _FULL),
    Variant("deepmedix-gmp", "Model-1", "global maximum instead of average pooling", replace(_FULL, pooling="max")),
    Variant("deepmedix-noskip", "Model-2", "no skip connection in the head", replace(_FULL, skip=False)),
    Variant("deepmedix-nodropout", "Model-3", "no Dropout and no BatchNorm", replace(_FULL, dropout_modules=False)),
    Variant(
        "deepmedix-noskip-nodropout",
        "Model-4",
        "no skip connection, no Dropout and no BatchNorm",
        replace(_FULL, skip=False, dropout_modules=False),
    ),
    Variant("deepmedix-wide", "Model-5", "256 units in every hidden layer", _WIDE),
    Variant("deepmedix-wide-noskip", "Model-6", "256 units, no skip connection", replace(_WIDE, skip=False)),
    Variant(
        "deepmedix-wide-nodropout",
        "Model-7",
        "256 units, no Dropout and no BatchNorm",
        replace(_WIDE, dropout_modules=False),
    ),
    Variant(
        "deepmedix-wide-noskip-nodropout",
        "Model-8",
        "256 units, no skip connection, no Dropout and no BatchNorm",
        replace(_WIDE, skip=False, dropout_modules=False),
    ),
)
