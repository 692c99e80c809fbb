"""What the analysis `geometry` may be told, and its entry; loads no torch."""

from __future__ import annotations

from pydantic import Field

from bench.analyses.registry import AnalysisSpec
from bench.analyses.support.intervals import ResampledSettings


class GeometrySettings(ResampledSettings):
    """Settings of `geometry`; the seed is of everything that is drawn."""

    images: int = Field(24, ge=2, description="test images whose Jacobians are taken")
    top: int = Field(10, ge=1, description="singular values at the feature layer")
    probes: int = Field(32, ge=2, description="of Hutchinson's estimator")
    attack_steps: int = Field(20, ge=1, description="of the attack that the boundary's distance is held against")
    pairs: int = Field(6, ge=0, description="pairs of images between which paths are drawn")
    points: int = Field(9, ge=3, description="on a path")
    path_steps: int = Field(30, ge=1, description="L-BFGS iterations of the path of least energy")
    layers: int = Field(5, ge=1, description="stages of the backbone whose dimension is estimated")
    dimension_images: int = Field(500, ge=10, description="images for the dimension")
    neighbours: int = Field(10, ge=2, description="of the maximum-likelihood dimension and of the overlap")
    curvature: bool = Field(True, description="whether the loss's curvature is measured (needs the extra geometry)")
    curvature_images: int = Field(32, ge=1, description="images that the loss is the mean over")
    dense: int = Field(1200, ge=1, description="parameters up to which a head's Hessian is made in full")
    lanczos_steps: int = Field(20, ge=2, description="of a Lanczos run")
    lanczos_runs: int = Field(2, ge=1, description="random start vectors")
    batch: int = Field(16, ge=1, description="images in one pass")


SPEC = AnalysisSpec(
    "geometry",
    "Geometry",
    "what are the metric, the margins, the dimension and the curvature of the fitted network?",
    "bench.analyses.geometry.analysis:geometry",
    frozenset({"predictions", "predictor", "images"}),
    GeometrySettings,
)
