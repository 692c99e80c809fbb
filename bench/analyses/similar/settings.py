"""What the analysis `similar` may be told, and what is registered of it; imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class SimilarSettings(ResampledSettings):
    """Settings of `similar`; the seed also draws the images.

    Attributes:
        images: test images that are looked up.
        neighbours: training images that are named for each; the distance to the last one counts.
        shown: of the images, how many are drawn.
    """

    images: int = Field(300, ge=1)
    neighbours: int = Field(5, ge=1)
    shown: int = Field(8, ge=1)


SPEC = AnalysisSpec(
    "similar",
    "Similar cases",
    "which training images is it held to be like, and is it like any?",
    "bench.analyses.similar.analysis:similar",
    frozenset({"predictions", "predictor", "images"}),
    SimilarSettings,
)
