"""The analyses that come with the harness, each imported when it is first asked."""

from __future__ import annotations

from bench.analyses.calibration import CalibrationSettings
from bench.analyses.conformal import ConformalSettings
from bench.analyses.corruptions.settings import SPEC as ROBUSTNESS
from bench.analyses.decisions import DecisionsSettings
from bench.analyses.explanations.settings import SPEC as EXPLANATIONS
from bench.analyses.external.settings import SPEC as EXTERNAL
from bench.analyses.geometry.settings import SPEC as GEOMETRY
from bench.analyses.inversion.settings import SPEC as INVERSION
from bench.analyses.membership.settings import SPEC as MEMBERSHIP
from bench.analyses.registry import ANALYSES, AnalysisSpec, Settings
from bench.analyses.selective import SelectiveSettings
from bench.analyses.similar.settings import SPEC as SIMILAR
from bench.analyses.subgroups import SubgroupsSettings

_OF_RUNS = (
    AnalysisSpec(
        "optimism",
        "Optimism of selection",
        "what would choosing by the test set have seemed to gain?",
        "bench.analyses.selection.choices:optimism_of_run",
        frozenset({"predictions", "predictor", "images"}),
        of="run",
    ),
    AnalysisSpec(
        "discrimination",
        "Discriminating power",
        "can this dataset tell these models apart?",
        "bench.analyses.selection.choices:discrimination_of_run",
        of="run",
    ),
)


def _from_predictions(name: str, title: str, summary: str, settings: type[Settings]) -> None:
    ANALYSES.register(name, AnalysisSpec(name, title, summary, f"bench.analyses.{name}:{name}", settings=settings))


_from_predictions("calibration", "Calibration", "do probabilities mean what they say?", CalibrationSettings)
_from_predictions("decisions", "Decisions", "what do decisions cost, and whom do they help?", DecisionsSettings)
_from_predictions("conformal", "Conformal sets", "which classes cannot be ruled out?", ConformalSettings)
_from_predictions("selective", "Selective prediction", "is it right where it is sure?", SelectiveSettings)
_from_predictions("subgroups", "Subgroups", "is it as good for everybody?", SubgroupsSettings)
for _spec in (ROBUSTNESS, EXPLANATIONS, GEOMETRY, EXTERNAL, MEMBERSHIP, INVERSION, SIMILAR, *_OF_RUNS):
    ANALYSES.register(_spec.name, _spec)
