"""Only the named formats are asked: whatever starts a program, or is read by seldom-used code, is no picture."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bench.core.errors import UserError
from bench.core.paths import cache
from bench.data.images import files as subject

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n%%Page: 1 1\nshowpage\n%%EOF\n"


def test_postscript_starts_no_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr("subprocess.check_call", start)
    path = tmp_path / "scan.png"
    path.write_bytes(EPS)
    (fact,) = subject.scan([path], tmp_path)
    assert fact.problem == "is no picture"
    with pytest.raises(UserError, match="cannot decode"):
        subject.decode(path)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
def test_the_named_formats_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(path, name)
    assert subject.decode(path).shape[:2] == (16, 16)


@pytest.mark.parametrize("name", ["PPM", "ICO", "TGA"])
def test_others_are_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", (16, 16)).save(path, name)
    with pytest.raises(UserError, match="cannot decode"):
        subject.decode(path)


def test_a_scan_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(path)
    (fact,) = subject.scan([path], tmp_path)
    (store,) = (cache() / "scans").glob("*.parquet")
    whole = store.read_bytes()
    pq.write_table(pa.table({"path": [str(path)], "size": ["many"], "problem": [None]}), store)
    odd = store.read_bytes()
    for text in (odd, whole[:-20], b"", pickle.dumps([fact])):
        store.write_bytes(text)
        assert subject.scan([path], tmp_path) == [fact]
        assert store.read_bytes() == whole


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    os.mkfifo(path)
    assert subject.scan([path], tmp_path)[0].problem == "is empty"
    with pytest.raises(UserError, match="is no regular file"):
        subject.decode(path)
