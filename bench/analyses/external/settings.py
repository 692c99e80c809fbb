"""What the analysis `external` may be told, and its entry; loads no torch."""

from __future__ import annotations

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class ExternalSettings(ResampledSettings):
    """Settings of `external`; the seed is of the halves that a temperature is fitted and measured on."""

    on: str = Field("", description="the dataset whose images are answered (`bench analyze --on`)")
    classes: dict[str, str] = Field(
        default_factory=dict,
        description="that dataset's class names to the model's, where the names do not say it; an empty one leaves out",
    )
    without_overlap: bool = Field(True, description="leave out pictures that are in the cell's own dataset too")


SPEC = AnalysisSpec(
    "external",
    "External validation",
    "how good is the model on another site's images?",
    "bench.analyses.external.analysis:external",
    frozenset({"predictions", "predictor", "images"}),
    ExternalSettings,
)
