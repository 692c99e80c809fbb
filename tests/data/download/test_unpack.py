from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.data.download import unpack as unpack_module
from bench.data.download.unpack import unpack


def make_zip(path: Path, entries: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def test_an_honest_archive_is_unpacked_whole(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"in/x.txt": b"x", "y.txt": b"y"})
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "in" / "x.txt").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, name: str):
    archive = make_zip(tmp_path / "a.zip", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(UserError, match="wants to write outside its folder"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "deep" / "out").exists()


def test_a_link_is_refused(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(UserError, match="holds a link or device: 'link'"):
        unpack(archive, tmp_path / "out")


def test_a_bomb_is_refused_before_anything_is_written(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"bomb": b"\0" * 50_000_000})
    with pytest.raises(UserError, match="grows more than 200 times"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_files_and_too_many_bytes_are_refused(tmp_path: Path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {f"{number}.txt": b"abcdef" for number in range(20)})
    monkeypatch.setattr(unpack_module, "MAX_FILES", 19)
    with pytest.raises(UserError, match="holds 20 files, more than 19"):
        unpack(archive, tmp_path / "out")
    monkeypatch.setattr(unpack_module, "MAX_FILES", 100)
    monkeypatch.setattr(unpack_module, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="would unpack to more than 100 bytes"):
        unpack(archive, tmp_path / "out")


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"x": bytes(range(256)) * 40})
    data = archive.read_bytes()
    real, claimed = (10240).to_bytes(4, "little"), (100).to_bytes(4, "little")
    archive.write_bytes(data.replace(real, claimed))
    with pytest.raises(UserError, match=r"larger than it claims|no whole zip archive"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"a.zip is no whole zip archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_damaged_entry_leaves_nothing(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"x.bin": bytes(range(256)) * 100})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"no whole zip archive|cannot unpack"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [".", "./.", "/"])
def test_a_name_of_no_file_is_refused(tmp_path: Path, name: str):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        archive.writestr(entry, b"")
    with pytest.raises(UserError, match="wants to write outside its folder"):
        unpack(path, tmp_path / "out")
