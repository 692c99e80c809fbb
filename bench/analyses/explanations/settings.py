"""What the analysis `explanations` may be told, and its entry; loads no torch."""

from __future__ import annotations

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class ExplanationsSettings(ResampledSettings):
    """Settings of `explanations`; the seed also draws the images and what is randomised."""

    images: int = Field(48, ge=1, description="test images that are explained; those with a lesion's mask first")
    shown: int = Field(8, ge=1, description="of them, how many are drawn")
    stride: int = Field(16, ge=1, description="LayerCAM reads the last block whose map is no coarser than this")
    gradient_steps: int = Field(16, ge=1, description="points between baseline and image of the integrated gradients")
    removals: int = Field(10, ge=2, description="steps in which pixels are deleted and inserted")
    other_seeds: int = Field(2, ge=0, description="cells of other seeds that stability is measured against, at most")
    batch: int = Field(16, ge=1, description="images in one pass")


SPEC = AnalysisSpec(
    "explanations",
    "Explanations",
    "where does the model look, and does that decide?",
    "bench.analyses.explanations.analysis:explanations",
    frozenset({"predictions", "predictor", "images"}),
    ExplanationsSettings,
    version=2,
)
