"""Small pictures and datasets for the tests of bench.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.table import Table

Draw = Callable[..., Path]


def picture(seed: int, size: tuple[int, int] = (40, 30), gray: bool = False) -> Image.Image:
    """A smooth random picture, unlike that of any other seed."""
    generator = np.random.default_rng(seed)
    knots = generator.integers(0, 256, (6, 8) if gray else (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(knots).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def draw() -> Draw:
    def draw_to(path: Path, seed: int, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed, **options).save(path)  # type: ignore[arg-type]
        return path

    return draw_to


class Drawn:
    """Pictures made on the spot, as a plug-in's image source would be: two methods and nothing else."""

    def __init__(self, seeds: list[int]) -> None:
        self.seeds = seeds

    def read(self, index: int) -> np.ndarray:
        return np.asarray(picture(self.seeds[index]))

    def checksum(self, index: int) -> str:
        return f"picture-{self.seeds[index]}"


@pytest.fixture
def make_table() -> Callable[..., Table]:
    def make(labels: list[int], groups: list[str] | None = None, **columns: object) -> Table:
        count = len(labels)
        ids = np.array(columns.pop("ids", [f"i{row:04d}" for row in range(count)]), dtype=np.str_)
        given = {
            "sites": np.array([""] * count),
            "official": np.array([""] * count),
            "images": Drawn(list(range(count))),
            **{name: np.array(value) if isinstance(value, list) else value for name, value in columns.items()},
        }
        classes = tuple("abcdefgh"[: max(2, max(labels) + 1)])
        names = np.array(groups if groups is not None else ids, dtype=np.str_)
        return Table("t", classes, ids=ids, labels=np.array(labels), groups=names, **given)  # type: ignore[arg-type]

    return make
