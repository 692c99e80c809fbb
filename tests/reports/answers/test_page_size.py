"""The page with every analysis of many cells: one file below 12 MB that asks for nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.store.answers import StoredAnswer, write_answer
from reports.html.answers import FEWEST_ROWS
from reports.write import report

ANALYSES, TABLES, ROWS = 14, 3, 500
LARGEST = 12_000_000


def picture(path: Path) -> None:
    """Noise, which no PNG makes smaller: a megabyte or so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)).save(path)


def answer(number: int) -> StoredAnswer:
    name = f"analysis{number}"
    rows = [
        {"id": f"image-{row:05}", **{f"figure_{place}": row * 0.001234567 for place in range(8)}} for row in range(ROWS)
    ]
    columns = {f"{name}_figure_{place}": (0.5, 0.4, 0.6) for place in range(12)}
    tables = {f"table {place}": rows for place in range(TABLES)}
    return StoredAnswer(name, name, 1, {}, "k", columns, tables, {"noise": f"{name}/noise.png"}, ["said"], "now", 1.0)


def test_a_page_with_everything_stays_small_and_asks_for_nothing(new_run: Any, spec: Any, predictions: Any) -> None:
    run = new_run()
    models = ["deepmedix", "deepmedix-gmp", "mobilenet_v2", "resnet18"]
    for model in models:
        for dataset in ("br35h", "figshare-brain"):
            run.done(spec(model, dataset, 0), predictions(model, dataset, 0))
    for cell in (run.path / "cells").iterdir():
        picture(cell / "analyses" / "analysis0" / "noise.png")
        for number in range(ANALYSES):
            write_answer(cell, answer(number))
    page = Path(report(run.path, ("html",))["files"]["html"][0])
    html = page.read_text()
    assert page.stat().st_size < LARGEST
    assert "data:image/png;base64," in html
    assert "too large for this page" in html
    assert f"the first 60 of {ROWS} rows" in html
    assert f"the first {FEWEST_ROWS} of {ROWS} rows" in html
    assert "default-src 'none'" in html
    sources = re.findall(r'(?:src|href|action)="([^"]*)"|url\(([^)]*)\)', html)
    assert all((one or two).startswith(("#", "data:")) for one, two in sources)
