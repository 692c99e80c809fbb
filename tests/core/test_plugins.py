"""A plugin that raises, ends the program or registers something else costs one sentence, and only itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.plugins import load_plugin
from bench.core.registry import Registry, imported


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("def broken(", "SyntaxError"),
        ("from models.registry import MODELS\nMODELS.register('odd', 'not a model')", "a ModelSpec are registered"),
    ],
)
def test_a_file_that_fails_is_a_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(text)
    with pytest.raises(UserError, match=reason):
        load_plugin(path)


def test_an_entry_point_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(registry: Registry[int]) -> None:
        registry.register("good", 1)

    def half(registry: Registry[int]) -> None:
        registry.register("half", 2)
        raise SystemExit(4)

    def odd(registry: Registry[Any]) -> None:
        registry.register("odd", "text")

    entries = [SimpleNamespace(name=made.__name__, value="package:it", load=lambda made=made: made)
               for made in (half, odd, good)]  # fmt: skip
    monkeypatch.setattr("bench.core.registry.entry_points", lambda group: entries)
    registry: Registry[int] = Registry("number", "bench.numbers", kind=int)
    assert registry.names() == ["good"]
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" failed")[0] for line in told] == [
        "bench: the plugin half (package:it)", "bench: the plugin odd (package:it)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "place",
    [
        "models.registry:MODELS", "models.registry:HEADS", "models.backbones.registry:BACKBONES",
        "models.recipes.registry:RECIPES", "models.activations:ACTIVATIONS", "bench.data.registry:DATASETS",
        "bench.harness.regimes:REGIMES", "bench.analyses.registry:ANALYSES", "bench.measure.columns:COLUMNS",
        "federated.algorithms.registry:ALGORITHMS",
    ],
)  # fmt: skip
def test_no_registry_takes_what_is_not_of_its_kind(place: str) -> None:
    registry: Any = imported(place)
    if place.startswith("bench.analyses"):
        imported("bench.analyses.run:analyze")
    for item in (1, "text", None, object(), object):
        with pytest.raises(TypeError, match="are registered, not a"):
            registry.register("nonsense", item)
    with pytest.raises(TypeError, match="are registered, not a"):
        registry.register(1, registry.get(registry.names()[0]))
    assert "nonsense" not in registry.names()


def test_what_is_no_error_is_a_sentence_too_and_an_interruption_is_not(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text("raise BaseException('end')")
    with pytest.raises(UserError, match="BaseException: end"):
        load_plugin(path)
    path.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugin(path)
