"""Files that are whole or not there, on odd paths and after a killed process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from bench.core import atomic
from bench.core.atomic import indented, sweep_temporaries, together, write_text
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


def test_what_is_replaced_together_reaches_the_disk_when_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    sync = atomic._sync
    monkeypatch.setattr(atomic, "_sync", lambda path: (reached.append(path.name), sync(path)))
    (tmp_path / "folder").mkdir()
    with together():
        write_text(tmp_path / "a", "1")
        with together():
            write_text(tmp_path / "folder" / "b", "2")
        write_text(tmp_path / "a", "3")
        assert (tmp_path / "a").read_text() == "3"
        assert reached == []
    assert sorted(reached[:2]) == ["a", "b"]
    assert sorted(reached[2:]) == sorted([tmp_path.name, "folder"])
    reached.clear()
    write_text(tmp_path / "c", "4")
    assert reached[1:] == [tmp_path.name]


def test_a_block_that_fails_leaves_the_next_files_to_themselves(tmp_path: Path) -> None:
    def fails() -> None:
        with together():
            write_text(tmp_path / "a", "1")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fails()
    assert atomic._waiting.get() is None


@pytest.mark.parametrize(
    "value",
    [
        {}, [], "ä\n", None, 1.5, -0.0, 1e300, True, {"a": []}, [[]], [1, "x", None],
        {"a": {"b": {"c": [1, {"d": ()}]}}}, {1: {"x": 1}, False: [2], None: {"y": 3}, 2.5: 1},
        [{"a": 1}, {}, [1, [2, 3]]], {"": {"\u2028": "\u2028"}}, (1, (2,)),
    ],
)  # fmt: skip
def test_indented_text_is_that_of_json(value: object) -> None:
    assert indented(value) == json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), {"a": [1.0, float("inf")]}, [[float("nan")]]])
def test_json_has_no_nan(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        indented(value)


@pytest.mark.parametrize("value", [object(), {"a": [object()]}, {("a",): {"b": 1}}])
def test_what_is_no_json_value_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        indented(value)
