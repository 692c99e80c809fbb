"""What the analysis `robustness` may be told, and its entry; loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class RobustnessSettings(ResampledSettings):
    """Settings of `robustness`; the seed also draws the images, the corruptions and the attacks' starts."""

    modality: Literal["kind", "mri", "dermoscopy"] = Field("kind", description="which corruptions; kind: the dataset's")
    images: int = Field(300, ge=1, description="test images, drawn by the seed")
    batch: int = Field(32, ge=1, description="images in one pass")
    baseline: dict[str, float] = Field(
        default_factory=dict,
        description="mean errors of another cell by corruption, and `clean`; the cell's own clean error where empty",
    )
    against: str = Field("", description="a plain model of the same run whose errors are the baseline, on these images")
    l2: tuple[float, ...] = Field((0.1, 0.25, 0.5, 1.0), description="radii of the L2 attack, 0-1 pixels")
    linf: tuple[float, ...] = Field((0.5 / 255, 1 / 255, 2 / 255, 4 / 255), description="radii of the Linf attack")
    attack_images: int = Field(64, ge=1, description="of those images, how many are attacked")
    attack_steps: int = Field(10, ge=1, description="steps of an attack")


SPEC = AnalysisSpec(
    "robustness",
    "Robustness",
    "what do the accidents of the modality, and the worst small change, cost?",
    "bench.analyses.corruptions.robustness:robustness",
    frozenset({"predictions", "predictor", "images"}),
    RobustnessSettings,
    version=2,
)
