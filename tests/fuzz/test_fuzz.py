"""A small part of the fuzzer, always the same, and every invocation that ever crashed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.harness import invoke, one, small_run

CASES = 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two cells."""
    return small_run(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
def test_nonsense_is_refused_in_a_sentence(run: Path) -> None:
    ended = [one(seed, run) for seed in range(CASES)]
    assert [found for _, found in ended if found is not None] == []
    # Both ends occur, so that the cases are neither all harmless nor all refused at once.
    assert {status for status, _ in ended} >= {0, 2}


def test_the_harness_tells_a_crash_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(["models", "show", "no such model"]) == (2, "")

    def crash(*_: object) -> None:
        raise KeyError("programming error")

    monkeypatch.setattr("bench.harness.listing.model_card", crash)
    status, problem = invoke(["models", "show", "deepmedix"])
    assert status == -1
    assert "programming error" in problem
