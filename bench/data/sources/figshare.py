"""Cheng's brain-tumour slices (figshare 1512427): the original MATLAB files, or a JPEG copy with an index."""

from __future__ import annotations

from pathlib import Path

from bench.core.config import Protocol
from bench.data.rows import Row, assemble
from bench.data.sources.manifest import locate_images, official_parts, read_csv
from bench.data.spec import DatasetSpec
from bench.data.table import Table

NAME = "figshare-brain"
CLASSES = ("meningioma", "glioma", "pituitary")
COMPLETE = 3064


def read(path: Path, protocol: Protocol) -> Table:  # noqa: ARG001 - a reader's signature
    """Read the distribution; patients are groups, the author's five patient-disjoint folds are the official split."""
    return _copy(path)


def _copy(root: Path) -> Table:
    manifest = read_csv(root / "index.csv")
    found = locate_images(root, [row["image"] for row in manifest.rows])
    folds = official_parts(manifest.path, [row["fold"] for row in manifest.rows])
    rows = [
        Row(row["image"], found[row["image"]], row["label"], group=f"fold-{fold}", official=fold)
        for row, fold in zip(manifest.rows, folds, strict=True)
    ]
    note = "a copy without patient ids: the author's folds, which keep patients whole, stand in as groups"
    return assemble(NAME, rows, root, classes=CLASSES, kind="brain", expected=COMPLETE, notes=(note,))


SPEC = DatasetSpec(NAME, "Brain tumours, figshare 1512427", "3064 slices of 233 patients", read, kind="brain")
