"""Slices cut to their tumours' outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.config import Protocol
from bench.core.errors import UserError
from bench.data.registry import DATASETS
from bench.data.sources.regions import read, square


def _copy(folder: Path, masks: bool = True) -> Path:
    (folder / "masks").mkdir(parents=True)
    lines = ["image,label,fold"]
    for number in range(1, 4):
        pixels = np.full((40, 40), 10 * number, np.uint8)
        pixels[10:20, 22:32] = 200
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if masks:
            outline = np.zeros((20, 20), np.uint8)
            outline[5:10, 11:16] = 255
            Image.fromarray(outline).convert("1").save(folder / "masks" / f"{number}.png")
        lines.append(f"{number}.png,{('meningioma', 'glioma', 'pituitary')[number - 1]},{number}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_region_is_the_square_around_the_outline_with_its_margin(tmp_path: Path) -> None:
    table = read(_copy(tmp_path / "set"), Protocol())
    region = table.images.read(0)
    assert region.shape == (12, 12)
    assert (region == 200).sum() == 100
    assert (region[1:11, 1:11] == 200).all()
    assert table.name == "figshare-brain-regions"
    assert "drawn by hand" in table.notes[-1]


def test_what_reaches_beyond_the_image_is_cut_off_and_an_empty_outline_is_the_whole() -> None:
    outline = np.zeros((10, 20), bool)
    assert square(outline) == (slice(0, 10), slice(0, 20))
    outline[0:4, 0:2] = True
    assert square(outline) == (slice(0, 4), slice(0, 3))


def test_another_outline_is_another_picture(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "set")
    before = read(folder, Protocol()).fingerprint()
    Image.fromarray(np.full((20, 20), 255, np.uint8)).save(folder / "masks" / "1.png")
    after = read(folder, Protocol())
    assert before != after.fingerprint()
    assert after.images.read(0).shape == (40, 40)


def test_slices_without_outlines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no masks/N.png beside the slices; use figshare-brain"):
        read(_copy(tmp_path / "set", masks=False), Protocol())


def test_it_is_no_part_of_all_and_carries_its_caution() -> None:
    assert "figshare-brain-regions" not in DATASETS.match("all")
    assert DATASETS.get("figshare-brain-regions").caution == "images cut to hand-drawn outlines, test images too"


def test_the_real_outlines(shared_data: Path) -> None:
    table = read(shared_data / "figshare-brain", Protocol())
    assert len(table) > 3000
    sides = [table.images.read(row).shape for row in range(0, len(table), 200)]
    assert all(8 <= side <= 256 for shape in sides for side in shape[:2])
