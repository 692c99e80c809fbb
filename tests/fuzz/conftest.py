"""What the generators and a stranger harm copies of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.generators.nonsense import Small
from tests.fuzz.harness import prepare


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Small, Path]]:
    """A finished run, and the user's folders in which it was made."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(folder / "home"))
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        yield prepare(folder), folder


@pytest.fixture
def small(made: tuple[Small, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Small:
    """The finished run, its caches at hand, in a working folder of the test's own."""
    found, folder = made
    monkeypatch.setenv("BENCH_HOME", str(folder / "home"))
    monkeypatch.setenv("BENCH_CACHE", str(folder / "cache"))
    monkeypatch.chdir(tmp_path)
    return found
