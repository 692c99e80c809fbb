"""A small part of the fuzzer, always the same, and every invocation that ever went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.generators import GENERATORS
from tests.fuzz.generators.nonsense import Invocation, Small
from tests.fuzz.harness import invoke, one
from tests.fuzz.kept import Kept, kept, replay

CASES = 250
# Each of them takes as long as a hundred others.
SLOW = {"studies"}


@pytest.mark.slow
def test_nonsense_is_refused_in_a_sentence(small: Small) -> None:
    ended = [one(seed, small, [name for name in GENERATORS if name not in SLOW]) for seed in range(CASES)]
    assert [case for case in ended if case.problem] == []
    # Both ends occur, so that the cases are neither all harmless nor all refused at once.
    assert {case.status for case in ended} >= {0, 2}
    assert len({case.generator for case in ended}) == len(GENERATORS) - len(SLOW)


def test_the_harness_tells_a_crash_from_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert invoke(Invocation(["models", "show", "no such model"])) == (2, "")
    assert "ended with 2" in invoke(Invocation(["models", "show", "no such model"], (0,)))[1]
    status, problem = invoke(Invocation(lambda: print("bench: two\nlines") or _end(2)))
    assert (status, problem[:23]) == (2, "not refused in one line")
    assert invoke(Invocation(lambda: _end(2)))[1].startswith("refused without a word")

    def crash(*_: object) -> None:
        raise KeyError("programming error")

    monkeypatch.setattr("bench.harness.listing.model_card", crash)
    status, problem = invoke(Invocation(["models", "show", "deepmedix"]))
    assert status == -1
    assert "programming error" in problem


def _end(status: int) -> None:
    raise SystemExit(status)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(kept()), ids=lambda case: case.name)
def test_what_once_went_wrong_ends_as_it_must(case: Kept, small: Small, tmp_path: Path) -> None:
    replay(case, tmp_path, small)
