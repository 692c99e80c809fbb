"""A plugin that raises, ends the program or registers something else costs one sentence, and only itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.plugins import load_plugin
from bench.core.registry import Registry


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
