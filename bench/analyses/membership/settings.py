"""What the analysis `membership` may be told, and its entry; loads no torch."""

from __future__ import annotations

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class MembershipSettings(ResampledSettings):
    """Settings of `membership`."""

    fewest_shadows: int = Field(1, ge=1, description="shadow models that did not train on an image, for it to count")


SPEC = AnalysisSpec(
    "membership",
    "Membership",
    "can it be told who was in the training part?",
    "bench.analyses.membership.analysis:membership",
    frozenset({"predictions", "predictor", "images"}),
    MembershipSettings,
)
