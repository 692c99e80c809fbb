"""What an analysis is: found by name, loaded when it is needed, its settings checked."""

import pytest
from pydantic import ValidationError

from bench.analyses.registry import AnalysisSpec, Answer, Estimate, Settings


class Threshold(Settings):
    at: float = 0.5


def ask(cell: object, settings: Threshold, folder: object) -> Answer:
    return Answer(columns={"threshold_at": Estimate(settings.at)})


SPEC = AnalysisSpec("threshold", "Threshold", "what is the threshold?", ask, settings=Threshold)


def test_a_function_is_taken_as_it_is_and_a_name_is_imported():
    assert SPEC.load() is ask
    named = AnalysisSpec("digest", "", "", "bench.core.identity:digest")
    assert named.load().__name__ == "digest"


def test_settings_have_defaults_and_refuse_what_they_do_not_know():
    assert SPEC.configured({}) == Threshold(at=0.5)
    assert SPEC.load()(None, SPEC.configured({"at": 0.2}), None).columns["threshold_at"] == Estimate(0.2)
    with pytest.raises(ValidationError, match="extra"):
        SPEC.configured({"above": 1})
