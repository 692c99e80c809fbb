"""What the analysis `inversion` may be told, and its entry; loads no torch."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings

Protection = Literal["none", "statistics kept", "local DP", "secure aggregation"]
PROTECTIONS: tuple[Protection, ...] = get_args(Protection)


class InversionSettings(ResampledSettings):
    """Settings of `inversion`; the seed is of the victims, the attack's start and the noise."""

    batches: tuple[int, ...] = Field((1, 8), description="images in the one step that an update is of")
    protections: tuple[Protection, ...] = Field(
        PROTECTIONS, min_length=1, description="under which updates are attacked"
    )
    victims: int = Field(3, ge=1, description="updates attacked for each batch size and protection")
    steps: int = Field(400, ge=1, description="of the attacker's optimizer")
    step_size: float = Field(0.1, gt=0, description="of the attacker's optimizer, in pixel values from 0 to 1")
    variation: float = Field(1e-4, ge=0, description="weight of the total variation beside the cosine distance")
    learning_rate: float = Field(0.1, gt=0, description="of the client's step")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of an update under differential privacy")
    noise_multiplier: float = Field(1.0, gt=0, description="of local differential privacy")
    delta: float = Field(1e-5, gt=0, lt=1, description="at which epsilon is told")
    clients: int = Field(5, ge=2, description="whose sum is all that secure aggregation shows")


SPEC = AnalysisSpec(
    "inversion",
    "Gradient inversion",
    "what does one update of a client show of its images?",
    "bench.analyses.inversion.analysis:inversion",
    frozenset({"predictions", "predictor", "images"}),
    InversionSettings,
)
