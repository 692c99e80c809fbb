"""A run's folder is named in one place."""

from __future__ import annotations

import ast
from pathlib import Path

from bench.store import layout

ROOT = Path(__file__).parents[2]
NAMES = {
    value
    for name, value in vars(layout).items()
    if name.isupper() and isinstance(value, str) and "." in value.strip(".") and value != layout.CELL_LOCK
}
SOURCES = [
    path
    for folder in ("bench", "models", "federated", "sweeps", "reports")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ROOT / "bench/store/layout.py"
]


def test_the_layout_names_what_a_run_holds() -> None:
    assert {"plan.json", "result.json", "predictions.parquet", "last.ckpt", "wandb.json"} <= NAMES
    assert layout.predictions_file("val") == "predictions-val.parquet"
    assert layout.answer_path(Path("cell"), "geometry") == Path("cell/analyses/geometry.json")
    assert layout.study_storage(Path("run")) == Path("run/sweeps/study.db")


def test_nobody_else_writes_such_a_name() -> None:
    assert {path: names for path in SOURCES if (names := _constants(path) & NAMES)} == {}


def _constants(path: Path) -> set[str]:
    """The plain strings of a module; docstrings and messages may speak of a file within a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
