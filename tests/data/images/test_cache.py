from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.errors import UserError
from bench.core.paths import cache
from bench.data.images import cache as cache_module
from bench.data.images.cache import images, resized
from bench.data.sources.folder import read_folder


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    for row in range(12):
        draw(
            tmp_path / "data" / "ab"[row % 2] / f"{row:02d}.png", row, size=(40 + 8 * (row % 3), 30), gray=row % 4 == 0
        )
    return tmp_path / "data"


def test_images_are_square_uint8_in_row_order_and_mapped_from_one_file(folder: Path):
    table = read_folder("t", folder)
    made = images(table, 24)
    assert made.shape == (12, 24, 24, 3)
    assert made.dtype == np.uint8
    for row in range(12):
        assert np.array_equal(made[row], resized(table.images.read(row), 24))
    assert isinstance(made, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 0


def test_resampling_is_within_one_level_of_pillows_antialiased_bilinear():
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    reference = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(resized(picture, 32) - reference).max() <= 1


def test_gray_fills_three_channels():
    small = resized(np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8), 16)
    assert small.shape == (16, 16, 3)
    assert (small[..., 0] == small[..., 2]).all()


def test_decoded_once_and_again_only_when_a_picture_changes(folder: Path, monkeypatch, draw):
    table = read_folder("t", folder)
    images(table, 16)
    before = np.array(images(table, 16))
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_block", lambda *_: pytest.fail("decoded again"))
        images(read_folder("t", folder), 16)
    draw(folder / "a" / "00.png", 99)
    after = images(read_folder("t", folder), 16)
    assert not np.array_equal(after[0], before[0])
    assert np.array_equal(after[1:], before[1:])


def test_the_index_names_every_row(folder: Path):
    import pyarrow.parquet as pq

    table = read_folder("t", folder)
    images(table, 16)
    index = next((cache() / "images").glob("*/index.parquet"))
    assert pq.read_table(index)["ids"].to_pylist() == table.ids.tolist()


def test_a_cut_off_cache_file_is_made_again(folder: Path):
    table = read_folder("t", folder)
    whole = np.array(images(table, 16))
    file = Path(str(images(table, 16).filename))
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(images(table, 16), whole)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(folder: Path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    table = read_folder("t", folder)
    monkeypatch.setattr(cache_module, "_block", full)
    with pytest.raises(UserError, match="no space left to write"):
        images(table, 16)
    assert not list((cache() / "images").glob("*/*.u8"))
    assert not list((cache() / "images").glob("*/*.tmp"))


def test_torch_gets_its_threads_back(folder: Path):
    import torch

    before = torch.get_num_threads()
    images(read_folder("t", folder), 20)
    assert torch.get_num_threads() == before


def _ask(arguments: tuple[str, str]) -> bytes:
    import os

    folder, home = arguments
    os.environ["BENCH_CACHE"] = home
    return bytes(images(read_folder("t", Path(folder)), 32).tobytes())


@pytest.mark.slow
def test_two_processes_may_ask_at_once(folder: Path, tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_ask, [(str(folder), str(tmp_path / "cache"))] * 2)
    assert first == second
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1


def test_progress_reaches_the_end(folder: Path):
    seen: list[tuple[int, int]] = []
    images(read_folder("t", folder), 18, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
