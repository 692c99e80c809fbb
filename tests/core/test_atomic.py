"""Files that are whole or not there, on odd paths and after a killed process."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from bench.core.atomic import sweep_temporaries, write_text
from bench.core.errors import UserError


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "/tmp"])
def test_what_is_no_file_is_never_replaced(path: str) -> None:
    with pytest.raises(UserError, match="is no regular file and is not replaced"):
        write_text(Path(path), "text")


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_path_below_a_file_or_too_long_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="cannot be written"):
            write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_leftovers_go_once_their_writers_lock_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    leftover, other = tmp_path / ".pixels.u8.123.0a1b2c3d.tmp", tmp_path / ".mine.tmp"
    for path in (leftover, other):
        path.write_text("half")
    with FileLock(lock):
        sweep_temporaries(tmp_path, lambda name: lock)
        assert leftover.exists()
    sweep_temporaries(tmp_path, lambda name: tmp_path / {"pixels.u8": "lock"}[name])
    assert not leftover.exists()
    assert other.exists()
